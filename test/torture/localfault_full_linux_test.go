package torture

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// small mounts a small volume on a directory, which it makes.
func (w *ward) small(dir, size string) {
	w.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	run(w.t, "mount", "-t", "tmpfs", "-o", "size="+size, "none", dir)
	w.t.Cleanup(func() { run(w.t, "umount", "-l", dir) })
}

// fill leaves no byte free; the function it returns gives them back.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	// dd ends with an error when there is no space left, as it should.
	if out, err := execOutput("dd", "if=/dev/zero", "of="+path, "bs=4096", "status=none"); err == nil {
		t.Fatalf("%s was not filled: %s", dir, out)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// TestAFullDiskStopsItsTenantAlone fills the volume of one database. Its writes are
// refused, by SQLite; what was committed is whole, and at the replica; a
// checkpoint that finds no space is named, once, and holds up no shipping.
//
// Red without maintenance (replicate/state.go): every attempt then told of a failure and of a
// recovery.
func TestAFullDiskStopsItsTenantAlone(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	w := newWard(t, multidb.WithHotDuration(time.Hour))
	w.small(filepath.Dir(w.path("sick")), "3m")
	w.start()
	w.othersFlow()
	// Space for the log, and then none for what a checkpoint moves to the file.
	h, err := w.m.Acquire(t.Context(), "sick")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if _, err := h.DB().Exec("CREATE TABLE ballast(v)"); err != nil {
		t.Fatal(err)
	}
	var free func()
	full := func() error {
		_, err := h.DB().Exec("INSERT INTO ballast VALUES(randomblob(40000))")
		return err
	}
	for i := 0; free == nil; i++ {
		if err := full(); err != nil {
			t.Logf("after %d rows: %v", i, err)
			free = fill(t, filepath.Dir(w.path("sick")))
		}
	}
	w.named(multidb.ErrDiskFull, false, nil)
	failed, recovered := w.events.count(multidb.EventFailed, "sick"), w.events.count(multidb.EventRecovered, "sick")
	attempts := w.m.Stats().Failures
	for range 150 {
		if w.sick.try() == nil { // it found a place in the log
			w.sick.sync()
		}
		if ok, _ := w.m.Healthy(maxLag); ok {
			t.Fatal("Healthy says that all is well between two attempts")
		}
		w.passTime()
	}
	if n := w.m.Stats().Failures; n == attempts {
		t.Error("the checkpoint was not tried again")
	}
	if f, r := w.events.count(multidb.EventFailed, "sick"), w.events.count(multidb.EventRecovered, "sick"); f != failed || r != recovered {
		t.Errorf("told of %d more failures and %d recoveries of one and the same", f-failed, r-recovered)
	}
	w.whole(w.sick)
	free() // which is not all: its own log has the rest
	run(t, "mount", "-o", "remount,size=64m", filepath.Dir(w.path("sick")))
	if _, err := h.DB().Exec("DROP TABLE ballast"); err != nil {
		t.Errorf("with space again: %v", err)
	}
	h.Release()
	w.sick.write(3)
	w.arrived()
	w.healthy()
	w.finish()
}

// TestAFullStateDirectoryStopsWhatNeedsItAlone: a transaction larger than memory
// waits for space in it, the catalog is not written, and everybody else flows.
func TestAFullStateDirectoryStopsWhatNeedsItAlone(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	w := newWard(t)
	w.small(w.state(), "32m")
	w.suits = calm
	w.start()
	w.othersFlow()
	free := fill(t, w.state())
	if err := w.m.Do(t.Context(), "sick", func(db *sql.DB) error {
		_, err := db.Exec("CREATE TABLE ballast(v); INSERT INTO ballast SELECT randomblob(100000) FROM log UNION ALL SELECT randomblob(2500000)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.named(syscall.ENOSPC, false, nil)
	w.whole(w.sick)
	eventually(t, eventLimit, func() string {
		if w.events.count(multidb.EventState, "") == 0 {
			return "no EventState of the catalog"
		}
		return ""
	})
	for range 20 {
		w.passTime()
	}
	free()
	w.healthy()
	w.sick.write(2)
	w.arrived()
	w.finish()
}

// TestARestoreToAFullDiskLeavesNothing, and one with space does the work; likewise
// an Acquire that restores.
func TestARestoreToAFullDiskLeavesNothing(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	w := newWard(t, multidb.WithRestoreOnOpen())
	w.small(filepath.Dir(w.path("sick")), "16m")
	w.start()
	w.othersFlow()
	w.sick.write(40)
	w.sick.sync()
	target := filepath.Join(w.dir, "target")
	w.small(target, "1m")
	free := fill(t, target)
	out := filepath.Join(target, "sub", "restored.db")
	restore := func() error {
		return w.m.Restore(t.Context(), "sick", multidb.RestoreOptions{OutputPath: out})
	}
	if err := restore(); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, multidb.ErrDiskFull) {
		t.Errorf("a restore to a full disk: %v", err)
	}
	if left := regularFiles(t, target); len(left) != 1 {
		t.Errorf("it left %v", left)
	}
	free()
	w.quiet()
	volume := filepath.Dir(w.path("sick"))
	run(t, "sh", "-c", `rm -f "$1"*`, "sh", w.path("sick"))
	free = fill(t, volume)
	if err := w.sick.try(); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, multidb.ErrDiskFull) {
		t.Errorf("a restore on open to a full disk: %v", err)
	}
	if left := regularFiles(t, volume); len(left) != 1 {
		t.Errorf("it left %v", left)
	}
	free()
	run(t, "mount", "-o", "remount,size=64m", target)
	if err := restore(); err != nil {
		t.Errorf("with space: %v", err)
	} else if n, err := w.sick.l.verifyFile(t, out); err != nil || n != w.sick.n {
		t.Errorf("it is transaction %d, want %d: %v", n, w.sick.n, err)
	}
	w.sick.write(3)
	w.arrived()
	w.healthy()
	w.finish()
}

// regularFiles is every file and every directory that is not empty below dir.
func regularFiles(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (!d.IsDir() || filepath.Base(path) != "sub" && path != dir) {
			out = append(out, fmt.Sprintf("%s (%v)", path, d.IsDir()))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return out
}
