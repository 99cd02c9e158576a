package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/superfly/ltx"
)

// TestACommitBesideASealIsNeverLost commits at every moment at which a seal asks
// the file system for the file, alone and with every kind of checkpoint behind it.
// A fingerprint of a file that has what was not shipped would say that nothing is
// left to ship, and no restore would ever have it. Red without the look atEnd in
// sealOnce.
func TestACommitBesideASealIsNeverLost(t *testing.T) {
	const (
		oneFrame = "UPDATE t SET v = randomblob(100) WHERE k = 1"
		some     = "INSERT INTO t(v) VALUES(randomblob(3000))"
	)
	for name, beside := range map[string][]string{
		"a commit":                           {oneFrame},
		"checkpointed":                       {oneFrame, "PRAGMA wal_checkpoint(PASSIVE)"},
		"checkpointed, log cut":              {oneFrame, "PRAGMA wal_checkpoint(TRUNCATE)"},
		"checkpointed, log restarted":        {oneFrame, "PRAGMA wal_checkpoint(RESTART)", some},
		"restarted with as many, copied too": {some, "PRAGMA wal_checkpoint(RESTART)", oneFrame, "PRAGMA wal_checkpoint(PASSIVE)"},
	} {
		for _, after := range []bool{false, true} {
			// until the seal asks less often than that
			for nth, reached := 1, true; reached; nth++ {
				t.Run(fmt.Sprintf("%s, at look %d, after it %v", name, nth, after), func(t *testing.T) {
					r := newRig(t, 1024)
					r.insert(3, 100)
					r.ship(RuleResync)
					r.exec(oneFrame)
					looks, stat := 0, r.s.cfg.Stat
					r.s.cfg.Stat = func(path string) (fsid.Fingerprint, error) {
						looks++
						now := looks == nth
						if now && !after {
							r.exec(beside...)
						}
						p, err := stat(path)
						if now && after {
							r.exec(beside...)
						}
						return p, err
					}
					_, err := r.s.Seal(t.Context(), r.db)
					if err != nil && !errors.Is(err, ErrUnsettled) && !errors.Is(err, sqlitedb.ErrBusy) {
						t.Fatal(err)
					}
					reached = looks >= nth
					r.s.cfg.Stat = stat
					drain(t, r.s, r.db)
					r.same()
					r.insert(1, 100)
					drain(t, r.s, r.db)
					r.same()
				})
			}
		}
	}
}

// TestALogThatOnlyARollbackRestartedIsSealed: its header is new, its frames were
// never committed, and SQLite has none of them in use.
func TestALogThatOnlyARollbackRestartedIsSealed(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.insert(60, 1000) // a longer log than what is rolled back
	if _, err := r.s.Checkpoint(t.Context(), r.db); err != nil {
		t.Fatal(err)
	}
	c := r.conn()
	for _, q := range []string{"PRAGMA cache_size = 5", "BEGIN", "INSERT INTO t(v) VALUES(randomblob(50000))", "ROLLBACK"} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	r.close(c)
	r.ship(RuleRestart)
	got, err := r.s.Seal(t.Context(), r.db)
	if err != nil || !got.Complete || r.db.State.Fingerprint.IsZero() {
		t.Errorf("sealed: %+v, %v; fingerprint %+v", got, err, r.db.State.Fingerprint)
	}
	r.insert(1, 100)
	r.ship(RuleCheckpoint)
	r.same()
}

// TestASealKeepsNobodyWaiting: it takes no lock that a writer needs, but for the
// instant of cutting the log, and gives up where somebody writes.
func TestASealKeepsNobodyWaiting(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.insert(1, 100)
	c := r.conn()
	if _, err := c.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	got, err := r.s.Seal(t.Context(), r.db)
	if err != nil || !got.Complete {
		t.Errorf("beside a transaction that has written nothing: %+v, %v", got, err)
	}
	for _, q := range []string{"INSERT INTO t(v) VALUES(randomblob(100))", "COMMIT"} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	r.close(c)
	drain(t, r.s, r.db)
	r.same()
}

// silentClient answers no write until it is told that nobody waits any more.
type silentClient struct{ *memClient }

func (c silentClient) WriteLTXFile(ctx context.Context, _ int, _, _ ltx.TXID, _ io.Reader) (*ltx.FileInfo, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestAWriterDoesNotWaitForASilentReplica: where commits keep coming before the
// lock is taken, a checkpoint ships the last of them while it holds the lock, and
// that upload is bounded (P5). Red, by the test's own limit, without the timeout
// of sealUploadTime in shipLocked.
func TestAWriterDoesNotWaitForASilentReplica(t *testing.T) {
	r := newRig(t, 1024)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.insert(1, 100)
	locks := 0
	r.s.onMoment = func(at moment) {
		if at != beforeLock {
			return
		}
		if locks++; locks == 4 { // from here on it insists
			r.db.Client = silentClient{r.client}
		}
		r.insert(1, 100)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*sealUploadTime)
	defer cancel()
	_, err := r.s.Checkpoint(ctx, r.db)
	if !errors.Is(err, context.DeadlineExceeded) || locks != 4 {
		t.Errorf("a checkpoint beside a silent replica: %v, with the lock taken %d times", err, locks)
	}
	if ctx.Err() != nil {
		t.Error("a writer would have waited for as long as the replica is silent")
	}
	r.s.onMoment = nil
	r.insert(1, 100) // the lock is given up
	r.db.Client = r.client
	drain(t, r.s, r.db)
	r.same()
}
