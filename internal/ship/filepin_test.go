package ship

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// still is a rig whose database stands still: nobody has it open, and its log is
// gone.
func newStill(t testing.TB, pageSize, rows int) *rig {
	r := newRig(t, pageSize)
	r.insert(rows, 300)
	r.closeApp()
	r.foreign("PRAGMA wal_checkpoint(TRUNCATE)") // its close deletes the log
	return r
}

func TestADatabaseThatStandsStillIsReadWithoutAConnection(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			r := newStill(t, pageSize, 400)
			pins := 0
			r.s.onMoment = func(at moment) {
				if at == beforeRead {
					pins++
				}
				for _, suffix := range []string{"-wal", "-shm"} {
					if _, err := os.Stat(r.path + suffix); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("a file ends in %s: %v", suffix, err)
					}
				}
			}
			r.ship(RuleResync)
			r.s.onMoment = nil
			if pins > 0 {
				t.Errorf("%d pins", pins)
			}
			if r.db.State.Fingerprint.IsZero() {
				t.Error("its fingerprint is not known")
			}
			r.same()
			r.foreign("INSERT INTO t(v) VALUES(1)")
			if res := r.ship(RuleResync); res.Bytes > 3*int64(pageSize) {
				t.Errorf("%d bytes of one row", res.Bytes)
			}
			if _, err := r.s.Snapshot(t.Context(), r.db); err != nil {
				t.Error(err)
			}
			r.same()
		})
	}
}

// TestACommitBesideAStillReadIsNeverLost places one at each moment of it: the file
// does not stand still then. Red without the second look at what stands beside the
// file (alone, in openFilePin), and without the one at its fingerprint (after == print,
// in dump).
func TestACommitBesideAStillReadIsNeverLost(t *testing.T) {
	t.Parallel()
	const change = "UPDATE t SET v = randomblob(300)"
	for _, c := range []struct {
		name   string
		moment moment
		do     func(r *rig)
	}{
		{"to the log, before", beforeFileRead, func(r *rig) { r.keep(change) }},
		{"to the log, after", afterPages, func(r *rig) { r.keep(change) }},
		{"to the file, before", beforeFileRead, func(r *rig) { r.foreign(change) }},
		{"to the file, in the middle", beforePage, func(r *rig) { r.foreign(change) }},
		{"to a shorter file, in the middle", beforePage, func(r *rig) { r.foreign("DELETE FROM t WHERE k > 3", "VACUUM") }},
		{"to the file, after", afterPages, func(r *rig) { r.foreign(change) }},
		{"to a shorter file, before", beforeFileRead, func(r *rig) { r.foreign("DELETE FROM t WHERE k > 3", "VACUUM") }},
		{"to a shorter file, after", afterPages, func(r *rig) { r.foreign("DELETE FROM t WHERE k > 3", "VACUUM") }},
		{"to a rollback journal, before", beforeFileRead, func(r *rig) { r.foreign("PRAGMA journal_mode=delete", change) }},
		{"to a rollback journal, after", afterPages, func(r *rig) { r.foreign("PRAGMA journal_mode=delete", change) }},
	} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, snapshot %v", c.name, snapshot), func(t *testing.T) {
				r := newStill(t, 1024, 400)
				before := r.content()
				if snapshot {
					r.ship(RuleResync)
				}
				done, pages := false, 0
				r.s.onMoment = func(at moment) {
					if at == beforePage {
						pages++
					}
					// The first pages of a read are read at once.
					if at == c.moment && !done && (at != beforePage || pages == 65) {
						done = true
						c.do(r)
					}
				}
				if snapshot {
					if _, err := r.s.Snapshot(t.Context(), r.db); err != nil {
						t.Fatal(err)
					}
				} else if _, err := r.s.Step(t.Context(), r.db); err != nil {
					t.Fatal(err)
				}
				if !done {
					t.Fatal("the moment never came")
				}
				r.s.onMoment = nil
				if got := restore(t, r.client, 0); got != before && got != r.content() {
					t.Errorf("transaction %s is no state of the source", r.db.State.TXID)
				}
				drain(t, r.s, r.db)
				r.same()
			})
		}
	}
}

// keep commits on a connection that stays open, so that its commit stays in the log.
func (r *rig) keep(q string) {
	r.t.Helper()
	r.app = ours(r.t, r.path)
	r.exec(q)
}

// TestAFileSystemThatKeepsWholeSecondsHidesNoWrite: within one of them every write
// leaves the same stamps. Red without the two seconds in tick (state.go).
func TestAFileSystemThatKeepsWholeSecondsHidesNoWrite(t *testing.T) {
	t.Parallel()
	r := newStill(t, 1024, 400)
	r.s.cfg.Stat = func(path string) (fsid.Fingerprint, error) {
		p, err := fsid.Stat(path)
		p.Mtime -= p.Mtime % int64(time.Second)
		p.Ctime -= p.Ctime % int64(time.Second)
		return p, err
	}
	pages := 0
	r.s.onMoment = func(at moment) {
		if at != beforePage {
			return
		}
		if pages++; pages == 65 {
			r.foreign("UPDATE t SET v = randomblob(300)")
		}
	}
	r.ship(RuleResync)
	r.same()
	r.s.onMoment = nil
	r.foreign("UPDATE t SET v = randomblob(300) WHERE k = 7")
	r.ship(RuleResync)
	r.same()
	for range 5 { // each in the second of the one before
		r.foreign("UPDATE t SET v = randomblob(300) WHERE k = 7")
		if _, err := r.s.Step(t.Context(), r.db); err != nil {
			t.Fatal(err)
		}
	}
	r.same()
}

// TestAFileReplacedBesideAStillReadIsNotTakenForTheOneThatWasRead: its fingerprint
// would say that the replica has what nobody read.
func TestAFileReplacedBesideAStillReadIsNotTakenForTheOneThatWasRead(t *testing.T) {
	for _, when := range []moment{afterOpen, beforeFileRead, afterPages} {
		r, other := newStill(t, 1024, 100), newStill(t, 1024, 200)
		r.replaceAt(when, other)
		r.ship(RuleResync)
		r.same()
	}
}

// TestWhatIsNotTheWholeDatabaseIsLeftToSQLite: each of these would be read wrongly
// from the file alone, or be no state of it.
func TestWhatIsNotTheWholeDatabaseIsLeftToSQLite(t *testing.T) {
	patch := func(r *rig, off int64, b ...byte) {
		r.t.Helper()
		f, err := os.OpenFile(r.path, os.O_RDWR, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := f.WriteAt(b, off); err != nil {
			r.t.Fatal(err)
		}
		r.close(f)
	}
	for name, spoil := range map[string]func(r *rig){
		"a log with a commit":       func(r *rig) { r.keep("INSERT INTO t(v) VALUES(1)") },
		"a rollback journal":        func(r *rig) { touch(r, r.path+"-journal") },
		"rollback mode":             func(r *rig) { r.foreign("PRAGMA journal_mode=delete") },
		"an older counter":          func(r *rig) { patch(r, 95, 0xff) },
		"a page more than it says":  func(r *rig) { patch(r, fileSize(r), make([]byte, 1024)...) },
		"a page less than it says":  func(r *rig) { truncate(r, fileSize(r)-1024) },
		"no pages by its own count": func(r *rig) { patch(r, 28, 0, 0, 0, 0) },
		"another file":              func(r *rig) { patch(r, 0, 'X') },
		"a page size that is none":  func(r *rig) { patch(r, 16, 3, 7) },
		"stamps of the future": func(r *rig) {
			if err := os.Chtimes(r.path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
				r.t.Fatal(err)
			}
		},
		"nothing": func(r *rig) { truncate(r, 0) },
		"a symbolic link": func(r *rig) {
			to := r.path + ".moved"
			if err := errors.Join(os.Rename(r.path, to), os.Symlink(to, r.path)); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStill(t, 1024, 100)
			p, err := r.s.openFilePin(t.Context(), r.db)
			if p == nil || err != nil {
				t.Fatalf("it does not stand still: %v", err)
			}
			if err := p.close(); err != nil {
				t.Fatal(err)
			}
			spoil(r)
			if p, err = r.s.openFilePin(t.Context(), r.db); p != nil || err != nil {
				t.Errorf("it was opened: %v", err)
			}
			if len(r.s.pins) > 0 {
				t.Error("it has a place among the pins")
			}
		})
	}
}

func touch(r *rig, path string) {
	r.t.Helper()
	if err := os.WriteFile(path, make([]byte, 512), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func truncate(r *rig, size int64) {
	r.t.Helper()
	if err := os.Truncate(r.path, size); err != nil {
		r.t.Fatal(err)
	}
}

func fileSize(r *rig) int64 {
	r.t.Helper()
	fi, err := os.Stat(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	return fi.Size()
}
