package torture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb"
)

// powerless is a process to which the modes of files apply, though it be root's.
var powerless = func() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	return []string{"setpriv", "--bounding-set", "-all", "--inh-caps", "-all"}
}()

// TestRightsTakenAwayAreNamedAndGivenBackAreUsed takes them from a file, from its
// directory, and from the state directory.
func TestRightsTakenAwayAreNamedAndGivenBackAreUsed(t *testing.T) {
	if !alone(t, powerless...) {
		return
	}
	for _, c := range []struct {
		name string
		path func(w *ward) string
		mode fs.FileMode
		want error
	}{
		{"the file", func(w *ward) string { return w.path("sick") }, 0, fs.ErrPermission},
		{"writing the file", func(w *ward) string { return w.path("sick") }, 0o444, multidb.ErrReadOnly},
		{"the directory", func(w *ward) string { return filepath.Dir(w.path("sick")) }, 0, fs.ErrPermission},
		{"writing the directory", func(w *ward) string { return filepath.Dir(w.path("sick")) }, 0o555, multidb.ErrReadOnly},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t)
			w.start()
			w.othersFlow()
			w.quiet()
			path := c.path(w)
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Chmod(path, fi.Mode()) }()
			if err := w.sick.try(); !errors.Is(err, c.want) {
				t.Errorf("a write: %v, want %v", err, c.want)
			}
			if w.events.count(multidb.EventRemoved, "sick") > 0 {
				t.Error("it was taken for deleted")
			}
			if err := os.Chmod(path, fi.Mode()); err != nil {
				t.Fatal(err)
			}
			w.sick.write(3)
			w.arrived()
			w.healthy()
			w.finish()
		})
	}
	t.Run("the state directory", func(t *testing.T) {
		t.Parallel()
		w := newWard(t)
		w.suits = calm
		w.start()
		w.othersFlow()
		run(t, "chmod", "-R", "a-w", w.state())
		w.sick.write(10)
		w.arrived()
		run(t, "chmod", "-R", "u+w", w.state())
		w.healthy()
		w.finish()
	})
	t.Run("the state directory, with a transaction larger than memory", func(t *testing.T) {
		t.Parallel()
		w := newWard(t)
		w.suits = func(name string, l ledger) bool {
			k := l.firstLarge()
			return name == "sick" && 12 < k && k <= 20 || name != "sick" && calm(name, l)
		}
		w.start()
		w.othersFlow()
		run(t, "chmod", "-R", "a-w", w.state())
		w.sick.write(10)
		w.named(fs.ErrPermission, false, nil)
		run(t, "chmod", "-R", "u+w", w.state())
		w.arrived()
		w.healthy()
		w.finish()
	})
}

// TestADatabaseThatCannotBeReadWhenItIsFoundIsNamedAndShippedWhenItCan: before its
// first look.
//
// Red where CheckHeader (internal/conduct) refuses what could not be read: it was ignored
// until somebody wrote to it.
func TestADatabaseThatCannotBeReadWhenItIsFoundIsNamedAndShippedWhenItCan(t *testing.T) {
	if !alone(t, powerless...) {
		return
	}
	w := newWard(t)
	w.start()
	w.othersFlow()
	w.quiet()
	old := w.sick
	w.sick = w.tenant("late")
	dir := filepath.Join(w.dir, "made")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	db := foreignDB(t, filepath.Join(dir, "x.db"))
	for k := 1; k <= 5; k++ {
		if err := w.sick.l.apply(t.Context(), db, k, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Close(), os.Chmod(filepath.Join(dir, "x.db"), 0), os.Rename(dir, filepath.Dir(w.path("late")))); err != nil {
		t.Fatal(err)
	}
	w.sick.n = 5
	w.named(fs.ErrPermission, false, nil)
	if err := os.Chmod(w.path("late"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.healthy()
	w.arrived()
	w.well = append(w.well, old)
	w.finish()
}

// TestNoDescriptorsLeftDelaysEverybodyAndLosesNobody lowers the limit of the
// process below what it has open.
func TestNoDescriptorsLeftDelaysEverybodyAndLosesNobody(t *testing.T) {
	if !alone(t) {
		return
	}
	w := newWard(t)
	w.start()
	w.quiet()
	h, err := w.m.Acquire(t.Context(), "sick")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	w.sick.write(1) // its connections are open
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	giveBack := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}
	defer giveBack()
	w.all = true
	w.sick.write(3) // through what is open
	w.named(syscall.EMFILE, true, nil)
	if err := w.m.Do(t.Context(), "well1", nil); err == nil {
		t.Error("a database was opened without a descriptor")
	}
	for _, name := range []multidb.ID{"sick", "well1", "well2"} {
		if w.events.count(multidb.EventRemoved, name)+w.events.count(multidb.EventIgnored, name) > 0 {
			t.Errorf("%s was taken for gone", name)
		}
	}
	eventually(t, eventLimit, func() string {
		if w.events.count(multidb.EventScanFailed, "") == 0 {
			return "no EventScanFailed of a listing without descriptors"
		}
		return ""
	})
	giveBack()
	w.arrived()
	w.healthy()
	h.Release()
	for _, p := range w.well {
		p.write(2)
		p.sync()
	}
	w.finish()
}
