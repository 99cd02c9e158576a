package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// TestADeletedDatabaseKeepsItsReplicaAndGoesOnWhenRestored: the file goes, its
// replica stays; no empty one takes its place, and one that is restored continues
// the history.
func TestADeletedDatabaseKeepsItsReplicaAndGoesOnWhenRestored(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.start()
	w.othersFlow()
	w.quiet()
	old, n := w.sick.l, w.sick.n
	run(t, "rm", "-r", filepath.Dir(w.path("sick")))
	eventually(t, eventLimit, func() string {
		if w.events.count(multidb.EventRemoved, "sick") == 0 {
			return "no EventRemoved"
		}
		return ""
	})
	if _, err := w.m.Status("sick"); !errors.Is(err, multidb.ErrNotFound) {
		t.Errorf("status of a deleted database: %v", err)
	}
	w.healthy()
	old.checkAll(t, w.place.client(t, "sick"), n)

	before := newestTXID(t, w, "sick")
	if err := w.sick.try(); !errors.Is(err, multidb.ErrBackupExists) {
		t.Errorf("a new one in its place: %v", err)
	}
	if after := newestTXID(t, w, "sick"); after != before {
		t.Errorf("the history went from %v to %v", before, after)
	}
	if err := w.m.Restore(t.Context(), "sick", multidb.RestoreOptions{OutputPath: w.path("sick")}); err != nil {
		t.Fatal(err)
	}
	w.sick.write(5)
	w.arrived()
	w.healthy()
	if after := newestTXID(t, w, "sick"); after <= before {
		t.Errorf("the history went from %v to %v", before, after)
	}
	w.finish()
}

// TestADeletedDatabaseThatIsHeldIsNamed: an application has it open, so that its
// deletion is no farewell.
func TestADeletedDatabaseThatIsHeldIsNamed(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.start()
	w.othersFlow()
	h, err := w.m.Acquire(t.Context(), "sick")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	hidden := filepath.Join(w.dir, "hidden")
	run(t, "mv", filepath.Dir(w.path("sick")), hidden)
	w.named(multidb.ErrMissing, false, nil)
	run(t, "mv", hidden, filepath.Dir(w.path("sick")))
	w.healthy()
	h.Release()
	w.sick.write(5)
	w.arrived()
	w.finish()
}

// TestARenamedDatabaseTakesItsDataToItsNewPrefix renames the directory of one in
// use, with its WAL, and back.
func TestARenamedDatabaseTakesItsDataToItsNewPrefix(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.start()
	w.othersFlow()
	w.sick.write(3)
	n := w.sick.n
	run(t, "mv", filepath.Dir(w.path("sick")), filepath.Dir(w.path("moved")))
	w.sick.id = "moved"
	w.arrived()
	eventually(t, eventLimit, func() string {
		if _, err := w.m.Status("sick"); !errors.Is(err, multidb.ErrNotFound) {
			return fmt.Sprintf("the old name is still known: %v", err)
		}
		return ""
	})
	w.sick.write(4)
	w.arrived()
	moved := w.place.client(t, "moved")
	w.sick.l.checkAll(t, moved, w.sick.n)
	if got := w.newest("sick", w.sick.l); got > n {
		t.Errorf("the old prefix has transaction %d, which was made after the renaming at %d", got, n)
	}
	w.healthy()

	// Out of the pattern: known no more. And back under the first name: the
	// prefix goes on from what it had.
	out := filepath.Join(w.dir, "elsewhere")
	run(t, "mv", filepath.Dir(w.path("moved")), out)
	eventually(t, eventLimit, func() string {
		if _, err := w.m.Status("moved"); !errors.Is(err, multidb.ErrNotFound) {
			return fmt.Sprintf("it is still known: %v", err)
		}
		return ""
	})
	w.sick.l.checkAll(t, moved, w.sick.n)
	run(t, "mv", out, filepath.Dir(w.path("sick")))
	w.sick.id = "sick"
	w.arrived()
	w.sick.write(2)
	w.arrived()
	w.healthy()
	w.finish()
}

// TestADatabasePutInPlaceOfAnotherIsShippedAsItIs: replaced by rename, while cold.
func TestADatabasePutInPlaceOfAnotherIsShippedAsItIs(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.start()
	w.othersFlow()
	w.quiet()
	other := ledger{w.sick.l.seed + 1}
	w.replaceBy(other, 7)
	eventually(t, eventLimit, func() string {
		if w.events.count(multidb.EventReplaced, "sick") == 0 {
			return "no EventReplaced"
		}
		return ""
	})
	w.sick.l, w.sick.n = other, 7
	w.arrived()
	w.sick.write(3)
	w.arrived()
	w.healthy()
	w.finishNewest()
}

// replaceBy puts another ledger's database in place of the sick one.
func (w *ward) replaceBy(l ledger, n int) {
	w.t.Helper()
	path := filepath.Join(w.dir, "replacement.db")
	db := foreignDB(w.t, path)
	for k := 1; k <= n; k++ {
		if err := l.apply(w.t.Context(), db, k, true); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
	run(w.t, "mv", path, w.path("sick"))
}

// TestGarbageInPlaceOfADatabaseIsNamedAndNeverShipped: by another file, and in
// the file itself. What was there comes back, and all is well.
func TestGarbageInPlaceOfADatabaseIsNamedAndNeverShipped(t *testing.T) {
	for name, harm := range map[string]string{
		"another file": `ln "$1" "$2"; head -c 20000 /dev/urandom > "$1.new"; mv "$1.new" "$1"`,
		"the header":   `cp -p "$1" "$2"; printf 'not a database!!' | dd of="$1" conv=notrunc status=none`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t)
			w.start()
			w.othersFlow()
			w.quiet()
			before := newestTXID(t, w, "sick")
			kept := filepath.Join(w.dir, "kept.db")
			run(t, "sh", "-c", harm, "sh", w.path("sick"), kept)
			w.named(multidb.ErrNotDatabase, false, nil)
			if err := w.sick.try(); !errors.Is(err, multidb.ErrNotDatabase) {
				t.Errorf("a write to it: %v", err)
			}
			if after := newestTXID(t, w, "sick"); after != before {
				t.Errorf("its prefix went from %v to %v", before, after)
			}
			if name == "the header" {
				run(t, "dd", "if="+kept, "of="+w.path("sick"), "conv=notrunc", "status=none")
			} else {
				run(t, "mv", kept, w.path("sick"))
			}
			w.healthy()
			w.sick.write(3)
			w.arrived()
			w.finish()
		})
	}
}

// TestAFileOfTwoNamesHasOneWriterAndOnePrefix: whichever way the second name is
// made, and whoever asks for it.
func TestAFileOfTwoNamesHasOneWriterAndOnePrefix(t *testing.T) {
	for name, link := range map[string]string{
		"hard link":            `mkdir "$2"; ln "$1/x.db" "$2/x.db"`,
		"symlink":              `mkdir "$2"; ln -s "$1/x.db" "$2/x.db"`,
		"symlink of directory": `ln -s "$1" "$2"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t)
			w.start()
			w.othersFlow()
			w.quiet()
			run(t, "sh", "-c", link, "sh", filepath.Dir(w.path("sick")), filepath.Dir(w.path("a_twin")))
			for range 20 {
				if h, err := w.m.Acquire(t.Context(), "a_twin"); err == nil {
					h.Release()
					t.Fatal("the second name was opened")
				} else if !errors.Is(err, multidb.ErrConflict) {
					t.Fatalf("the second name: %v", err)
				}
				w.sick.write(1)
				if st, err := w.m.Status("a_twin"); err == nil && st.TXID != 0 {
					t.Fatalf("the second name was shipped: %v", st.TXID)
				}
				w.sick.sync()
			}
			w.healthy()
			if files, err := listFiles(w.place.client(t, "a_twin")); err != nil || len(files) > 0 {
				t.Errorf("the second name has a prefix: %v, %v", files, err)
			}
			if _, err := os.Stat(w.path("a_twin") + "-wal"); name == "hard link" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the second name has a WAL: %v", err)
			}
			w.finish()
		})
	}
}

// TestGarbageAtTheEndOfAWALHarmsNobody: SQLite ignores it, and so do we.
func TestGarbageAtTheEndOfAWALHarmsNobody(t *testing.T) {
	t.Parallel()
	w := newWard(t, multidb.WithHotDuration(time.Hour))
	w.start()
	w.othersFlow()
	for range 10 {
		w.sick.write(2)
		run(t, "sh", "-c", `head -c 9000 /dev/urandom >> "$1"`, "sh", w.path("sick")+"-wal")
		w.arrived()
	}
	w.healthy()
	w.finish()
}
