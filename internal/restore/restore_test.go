package restore

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// TestWhatIsNotSaidIsCheckedInFull: of a database that takes the place of another.
func TestWhatIsNotSaidIsCheckedInFull(t *testing.T) {
	if opt := (Options{}); opt.Unchecked || opt.Check != sqlitedb.Full {
		t.Errorf("it is checked to %v, or not: %v", opt.Check, opt.Unchecked)
	}
}

// TestARestoredFileLooksOlderThanItsName, so that a write right after is seen by its mtime.
func TestARestoredFileLooksOlderThanItsName(t *testing.T) {
	h := newHistory(t, rand.New(rand.NewPCG(1, 1)), 3)
	out := filepath.Join(t.TempDir(), "db")
	made, err := From(t.Context(), h.client, h.client, Options{Output: out, Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := fsid.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if old := time.Duration(p.Ctime - p.Mtime); p.Mtime != made.Mtime || p.Ctime != 0 && old < setBackBy {
		t.Errorf("its mtime is %d, %v before its ctime; told %d", p.Mtime, old, made.Mtime)
	}
	if made.Header.MaxTXID != h.txid || made.Sum == 0 {
		t.Errorf("made of %+v", made)
	}
}

// TestWhereNothingSaysWhoMayUseADatabaseItHasTheModeOfANewFile, as after stock's restore.
func TestWhereNothingSaysWhoMayUseADatabaseItHasTheModeOfANewFile(t *testing.T) {
	h := newHistory(t, rand.New(rand.NewPCG(1, 1)), 1)
	out := filepath.Join(t.TempDir(), "db")
	if err := Newest(t.Context(), h.client, Options{Output: out, Unchecked: true}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(out + "-new")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(out); err != nil || got.Mode() != want.Mode() {
		t.Errorf("mode %v, %v; want %v", got.Mode(), err, want.Mode())
	}
}
