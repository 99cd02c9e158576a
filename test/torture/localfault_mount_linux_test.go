package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// mounts is a process that may mount, which nobody else sees.
var mounts = func() []string {
	args := []string{"unshare", "--mount", "--propagation", "private"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	return args
}()

// mountSick puts the sick one's directory on a volume whose content is kept in
// another place, so that it can be mounted again.
func (w *ward) mountSick() (mount, unmount func()) {
	w.t.Helper()
	dir, backing := filepath.Dir(w.path("sick")), filepath.Join(w.dir, "volume")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(backing, 0o755)); err != nil {
		w.t.Fatal(err)
	}
	run(w.t, "mount", "-t", "tmpfs", "-o", "size=64m", "none", backing)
	mount = func() { run(w.t, "mount", "--bind", backing, dir) }
	unmount = func() { run(w.t, "umount", "-l", dir) }
	mount()
	w.t.Cleanup(func() { run(w.t, "umount", "-l", dir, backing) })
	return mount, unmount
}

// TestAVolumeThatIsNotMountedIsMissingAndNotEmptied takes it away while in use,
// with an empty mount point below, which looks like a tenant that was deleted.
// Nothing is forgotten, no empty database takes its place, neither here nor at the
// replica, and when it is back all goes on.
//
// Red without Unmounted in forget (internal/survey/survey.go), and with
// WithRestoreOnOpen without MayMake in ensureFile (internal/opener/file.go).
func TestAVolumeThatIsNotMountedIsMissingAndNotEmptied(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	for _, hydrate := range []bool{false, true} {
		for _, hold := range []bool{false, true} {
			t.Run(fmt.Sprintf("restore on open %v, held %v", hydrate, hold), func(t *testing.T) {
				t.Parallel()
				var opts []multidb.Option
				if hydrate {
					opts = append(opts, multidb.WithRestoreOnOpen())
				}
				w := newWard(t, opts...)
				mount, unmount := w.mountSick()
				w.start()
				w.othersFlow()
				var h multidb.Handle
				if hold {
					var err error
					if h, err = w.m.Acquire(t.Context(), "sick"); err != nil {
						t.Fatal(err)
					}
					defer h.Release()
				}
				w.sick.write(2)
				w.sick.sync()
				before := newestTXID(t, w, "sick")
				unmount()
				w.named(multidb.ErrMissing, false, nil)
				for i := range 30 { // many scans
					// Also where it is held: nobody gets a file that is out of sight.
					if err := w.sick.try(); !errors.Is(err, multidb.ErrMissing) {
						t.Fatalf("a write, %d: %v", i, err)
					}
					w.passTime()
				}
				if _, err := os.Stat(w.path("sick")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("there is a file below the mount point: %v", err)
				}
				if after := newestTXID(t, w, "sick"); after != before {
					t.Errorf("the prefix went from %v to %v", before, after)
				}
				if w.events.count(multidb.EventRemoved, "sick") > 0 {
					t.Error("it was taken for deleted")
				}
				h.Release()
				mount()
				w.arrived()
				w.healthy()
				w.sick.write(5)
				w.arrived()
				w.finish()
			})
		}
	}
}

// passTime passes some scans, in which another database stays well.
func (w *ward) passTime() {
	w.t.Helper()
	pause(20 * time.Millisecond)
	if st, err := w.m.Status("well1"); err != nil || st.Err != nil {
		w.t.Errorf("another database: %v, %v", st.Err, err)
	}
}

// TestADeletedDirectoryOfAMountedVolumeIsForgotten: the opposite, so that the one
// above does not pass by keeping everything.
func TestADeletedDirectoryOfAMountedVolumeIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.start()
	w.othersFlow()
	run(t, "rm", "-r", filepath.Dir(w.path("sick")))
	eventually(t, eventLimit, func() string {
		if _, err := w.m.Status("sick"); !errors.Is(err, multidb.ErrNotFound) {
			return fmt.Sprintf("it is known: %v", err)
		}
		return ""
	})
	w.healthy()
	w.rest()
}

// TestAVolumeMadeReadOnlyIsNamedAndGoesOnWhenItIsNot remounts the volume of one
// database, with what was not shipped in its WAL.
func TestAVolumeMadeReadOnlyIsNamedAndGoesOnWhenItIsNot(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	w, rep := newWard(t), multidbtest.NewReplica()
	w.opts[1] = multidb.WithReplica(rep)
	w.mountSick()
	w.start()
	w.othersFlow()
	w.healthy()
	// What is shipped is cut off the log when the pool closes it.
	refused := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: "sick", Err: multidbtest.ErrInjected})
	w.sick.write(3)
	dir := filepath.Dir(w.path("sick"))
	eventually(t, eventLimit, func() string { // as soon as nobody has it open
		if out, err := execOutput("mount", "-o", "remount,bind,ro", dir); err != nil {
			return out
		}
		if fi, err := os.Stat(w.path("sick") + "-wal"); err == nil && fi.Size() > 0 {
			return ""
		}
		// Everything was in its file already, and there is nothing to complain of.
		run(t, "mount", "-o", "remount,bind,rw", dir)
		w.sick.write(1)
		return "it has no WAL"
	})
	refused.Clear()
	w.named(multidb.ErrReadOnly, false, nil)
	if err := w.sick.try(); err == nil {
		t.Error("a write to a read-only volume succeeded")
	}
	// Which of its commits were shipped before is chance; none of them is lost.
	w.whole(w.sick)
	run(t, "mount", "-o", "remount,bind,rw", dir)
	w.healthy()
	w.arrived()
	w.sick.write(3)
	w.arrived()
	w.rest()
	for _, p := range append([]*tenant{w.sick}, w.well...) {
		w.whole(p)
		c, err := rep.ReplicaClient(multidb.Database{ID: p.id})
		if err != nil {
			t.Fatal(err)
		}
		p.l.checkAll(t, c, p.n)
	}
}

// TestAReadOnlyVolumeWithTheStateElsewhere: the Manager starts, says what it can
// do nothing about, and ships the rest; with its state there too it says so.
func TestAReadOnlyVolumeWithTheStateElsewhere(t *testing.T) {
	if !alone(t, mounts...) {
		return
	}
	w := newWard(t)
	w.mountSick()
	w.start()
	w.othersFlow()
	w.sick.write(3)
	w.rest()
	run(t, "mount", "-o", "remount,bind,ro", filepath.Dir(w.path("sick")))
	w.manager()
	w.othersFlow()
	if err := w.sick.try(); err == nil {
		t.Error("a write to a read-only volume succeeded")
	}
	for _, p := range w.well {
		if st := p.status(); st.Err != nil {
			t.Errorf("%s: %v", p.id, st.Err)
		}
	}
	w.finish() // all was shipped before, and so there is nothing to complain of

	m, err := multidb.New(append(w.opts, multidb.WithStateDir(filepath.Join(filepath.Dir(w.path("sick")), "state")))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil {
		t.Error("a Manager started with its state on a read-only volume")
		closeManager(t, m)
	} else {
		t.Logf("as it should: %v", err)
	}
}
