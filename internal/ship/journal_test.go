package ship

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

func TestARollbackJournalDatabaseIsShippedWhenItChanges(t *testing.T) {
	r := newRig(t, 4096)
	r.closeApp()
	h := history{}
	ship := func(rule Rule, txns int) {
		t.Helper()
		if res := r.ship(rule); res.Txns != txns {
			t.Fatalf("shipped %+v, want %d transactions", res, txns)
		}
		h.note(r)
	}
	r.foreign("PRAGMA journal_mode=delete")
	ship(RuleResync, 1)
	ship(RuleCheckpoint, 0)
	r.foreign("INSERT INTO t(v) VALUES(1)")
	ship(RuleResync, 1)
	ship(RuleCheckpoint, 0)

	r.foreign("PRAGMA journal_mode=wal", "INSERT INTO t(v) VALUES(2)")
	ship(RuleResync, 1)
	r.app = ours(t, r.path)
	r.insert(3, 100)
	r.ship(RuleCheckpoint)
	h.note(r)
	r.closeApp()

	r.foreign("PRAGMA journal_mode=delete", "UPDATE t SET v = 3")
	ship(RuleResync, 1)
	r.foreign("PRAGMA journal_mode=persist", "UPDATE t SET v = 4")
	ship(RuleResync, 1)
	r.foreign("PRAGMA journal_mode=wal")
	ship(RuleResync, 1)
	h.check(r)
	r.contiguous()
}

func TestARollbackJournalDatabaseIsSealedAsItIs(t *testing.T) {
	r := newRig(t, 4096)
	r.closeApp()
	r.foreign("PRAGMA journal_mode=delete", "INSERT INTO t(v) VALUES(1)")
	for range 2 {
		r.seal()
		if _, err := r.s.Checkpoint(t.Context(), r.db); err != nil {
			t.Fatal(err)
		}
		if _, err := r.s.Snapshot(t.Context(), r.db); err != nil {
			t.Fatal(err)
		}
	}
	if r.db.State.TXID != 1 {
		t.Errorf("an unchanged database was shipped up to %s", r.db.State.TXID)
	}
	r.same()
}

// TestAConversionWhoseLogStaysBesideTheFileIsNoticed: a connection that keeps
// its WAL leaves it behind when it converts the database.
func TestAConversionWhoseLogStaysBesideTheFileIsNoticed(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.closeApp()
	c, err := sqlitedb.OpenConn(t.Context(), r.path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"PRAGMA journal_mode=delete", "INSERT INTO t(v) VALUES('in the file')"} {
		if err := c.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.path + "-wal"); err != nil {
		t.Fatal(err)
	}
	// Where the log lies there, SQLite uses it, whatever the mode's name is.
	drain(t, r.s, r.db)
	r.same()
	r.close(c)
	drain(t, r.s, r.db)
	r.same()
}

func TestEveryTransactionRestoresAcrossAChangeOfThePageSize(t *testing.T) {
	r := newRig(t, 1024)
	h := history{}
	for i, size := range []int{4096, 512, 65536} {
		r.insert(3, 700)
		drain(t, r.s, r.db)
		h.note(r)
		r.insert(3, 700)
		r.ship(RuleSame)
		h.note(r)
		r.closeApp()
		r.foreign("PRAGMA journal_mode=delete", fmt.Sprintf("PRAGMA page_size=%d", size), "VACUUM")
		if i == 0 { // seen in between
			r.ship(RuleResync)
			h.note(r)
		}
		r.foreign(fmt.Sprintf("PRAGMA page_size=%d", size), "VACUUM", "PRAGMA journal_mode=wal")
		r.ship(RuleResync)
		h.note(r)
		if got := r.db.State.PageSize; got != uint32(size) {
			t.Fatalf("the page size is %d", got)
		}
		r.app = ours(t, r.path)
		r.insert(2, 700)
		r.ship(RuleCheckpoint)
		h.note(r)
		r.insert(2, 700)
		r.ship(RuleSame)
		h.note(r)
	}
	h.check(r)
	r.contiguous()
}

func TestAFileReplacedByRenameIsShippedWhole(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.closeApp()
	r.seal()
	other := newRig(t, 4096)
	other.insert(3, 20)
	other.closeApp()
	if err := os.Rename(other.path, r.path); err != nil {
		t.Fatal(err)
	}
	r.ship(RuleResync)
	r.same()
}

// The log beside it is SQLite's for the new file too, and so it is ours.
func TestAFileReplacedByACopyOfItselfIsShippedWhole(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	r.closeApp()
	twin := filepath.Join(t.TempDir(), "twin.db")
	r.copyTo(twin)
	if err := os.Rename(twin, r.path); err != nil {
		t.Fatal(err)
	}
	r.ship(RuleResync)
	r.same()
}

func TestAMissingFileIsAnErrorOfItsOwn(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	r.ship(RuleResync)
	st := r.db.State
	r.closeApp()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(r.path + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	for name, f := range r.ops() {
		if err := f(); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.db.State != st {
		t.Error("the state moved")
	}
	if _, err := os.Stat(r.path); err == nil {
		t.Error("the file was made anew")
	}
}

// ops are the operations on a database.
func (r *rig) ops() map[string]func() error {
	ctx := r.t.Context()
	return map[string]func() error{
		"step":       func() error { _, err := r.s.Step(ctx, r.db); return err },
		"checkpoint": func() error { _, err := r.s.Checkpoint(ctx, r.db); return err },
		"seal":       func() error { _, err := r.s.Seal(ctx, r.db); return err },
		"snapshot":   func() error { _, err := r.s.Snapshot(ctx, r.db); return err },
	}
}

func TestAnEmptyFileHasNothingToShip(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	st := r.db.State
	r.closeApp()
	if err := os.Truncate(r.path, 0); err != nil { // the log stays
		t.Fatal(err)
	}
	if res := r.ship(RuleNone); !res.Empty {
		t.Errorf("%+v", res)
	}
	for name, f := range r.ops() {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if res := r.ship(RuleNone); !res.Empty || len(r.client.list()) != 1 || r.db.State != st {
		t.Errorf("%+v, %d files", res, len(r.client.list()))
	}
	if fi, err := os.Stat(r.path); err != nil || fi.Size() != 0 {
		t.Errorf("the file was written: %v", err)
	}
}

func TestAFileThatIsNoDatabaseIsAnErrorOfItsOwn(t *testing.T) {
	for name, content := range map[string]string{
		"text":           strings.Repeat("no database at all\n", 500),
		"one short line": "hello\n",
		"an odd size":    strings.Repeat("x", 4097),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.closeApp()
			if err := os.WriteFile(r.path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, f := range r.ops() {
				if err := f(); !errors.Is(err, sqlitedb.ErrNotDatabase) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if b, err := os.ReadFile(r.path); err != nil || string(b) != content {
				t.Errorf("the file was changed: %v", err)
			}
			if n := len(r.client.list()); n != 0 {
				t.Errorf("%d files were written", n)
			}
		})
	}
}

func TestACutFileIsCorrupt(t *testing.T) {
	for _, size := range []int64{3 * 4096, 3*4096 + 17, 4096} {
		t.Run(fmt.Sprintf("after %d bytes", size), func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(20, 3000)
			r.closeApp()
			r.seal()
			st, files := r.db.State, len(r.client.list())
			if err := os.Truncate(r.path, size); err != nil {
				t.Fatal(err)
			}
			for name, f := range r.ops() {
				if err := f(); !errors.Is(err, sqlitedb.ErrCorrupt) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if r.db.State != st || len(r.client.list()) != files {
				t.Error("something was shipped")
			}
		})
	}
}

func TestASealedDatabaseCostsOneSmallFileAtItsNextWrite(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(50, 3000)
	r.closeApp()
	r.seal()
	if fi, err := os.Stat(r.path + "-wal"); err == nil && fi.Size() > 0 {
		t.Errorf("the log has %d bytes", fi.Size())
	}
	for range 3 {
		r.app = ours(t, r.path)
		r.exec("UPDATE t SET v = randomblob(10) WHERE k = 1")
		if res := r.ship(RuleCheckpoint); res.Txns != 1 || res.Bytes > 20000 {
			t.Fatalf("shipped %+v", res)
		}
		r.same()
		r.closeApp()
		r.seal()
	}
}

// TestASealThatAReaderHoldsUpIsNotComplete: the frames that it needs stay.
func TestASealThatAReaderHoldsUpIsNotComplete(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(5, 100)
	reader := r.conn()
	mustExec(t, reader, "BEGIN")
	if _, err := reader.ExecContext(t.Context(), "SELECT count(*) FROM t"); err != nil {
		t.Fatal(err)
	}
	r.insert(5, 100)
	for _, seal := range []func() (Sealed, error){
		func() (Sealed, error) { return r.s.Checkpoint(t.Context(), r.db) },
		func() (Sealed, error) { return r.s.Seal(t.Context(), r.db) },
	} {
		got, err := seal()
		if err != nil || got.Complete || !r.db.State.Fingerprint.IsZero() {
			t.Fatalf("%+v, %v, fingerprint %+v", got, err, r.db.State.Fingerprint)
		}
		r.same()
	}
	mustExec(t, reader, "COMMIT")
	r.close(reader)
	r.insert(1, 100)
	r.ship(RuleSame)
	r.seal()
	r.same()
}

// litestream's own replication refuses for good to go on from an offset of zero,
// and takes the start of the log with no frames for a reason to take a snapshot.
func TestAWholeStateWithoutALogIsOneThatLitestreamGoesOnFrom(t *testing.T) {
	r := newRig(t, 4096)
	r.closeApp()
	r.foreign("PRAGMA journal_mode=delete", "INSERT INTO t(v) VALUES(1)")
	r.ship(RuleResync)
	r.foreign("INSERT INTO t(v) VALUES(2)")
	r.db.Pages = nil
	r.ship(RuleResync)
	for txid := ltx.TXID(1); txid <= r.db.State.TXID; txid++ {
		if h := r.client.read(t, 0, txid, txid).hdr; h.WALOffset != wal.HeaderSize || h.WALSize != 0 {
			t.Errorf("transaction %s is of the log from %d, %d bytes", txid, h.WALOffset, h.WALSize)
		}
	}
}
