package multidb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/multidbtest"
)

// startError is what Start says; a Manager that started all the same is closed.
func startError(t *testing.T, opts ...multidb.Option) error {
	t.Helper()
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err = m.Start(t.Context()); err == nil {
		t.Cleanup(func() { _ = m.Close(context.Background()) })
	}
	return err
}

// becomes waits for a scan to change what want asks for.
func becomes(t *testing.T, what string, want func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !want(); {
		if time.Now().After(deadline) {
			t.Fatalf("it did not become so: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func emptyDir(t *testing.T, dir string) bool {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	return len(list) == 0
}

func TestStartRefusesARootThatIsMissingAndMakesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  func(root, elsewhere string) []multidb.Option
		names string
	}{
		{"with its state in it", func(string, string) []multidb.Option { return nil }, "WithStateDir"},
		{"with its state in it, though it may be missing", func(string, string) []multidb.Option {
			return []multidb.Option{multidb.WithMissingRoots(true)}
		}, "WithStateDir"},
		{"with its state elsewhere", func(_, dir string) []multidb.Option {
			return []multidb.Option{multidb.WithStateDir(filepath.Join(dir, "state"))}
		}, "WithMissingRoots"},
		{"of the second pattern", func(root, dir string) []multidb.Option {
			return []multidb.Option{multidb.WithStateDir(filepath.Join(dir, "state")), multidb.WithDiscoverer(multidb.Glob(dir+"/{{a}}/{{b}}.db", pattern(root)))}
		}, "WithMissingRoots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, elsewhere := t.TempDir(), t.TempDir()
			root := filepath.Join(base, "volume", "data")
			err := startError(t, append(c.opts(root, elsewhere), multidb.WithDiscoverer(multidb.Glob(pattern(root))))...)
			if !errors.Is(err, multidb.ErrRootMissing) || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v", err)
			}
			if !emptyDir(t, base) || !emptyDir(t, elsewhere) {
				t.Error("something was made")
			}
		})
	}
	t.Run("that is a file", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(root, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := startError(t, multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithStateDir(t.TempDir()))
		if !errors.Is(err, multidb.ErrRootMissing) {
			t.Errorf("got %v", err)
		}
	})
}

func TestARootThatMayBeMissingIsFoundWhenItComes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "data")
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()), multidb.WithMissingRoots(true))
	if ok, worst := f.m.Healthy(time.Hour); ok || len(worst) != 1 || worst[0].ID != "" || !errors.Is(worst[0].Err, fs.ErrNotExist) || worst[0].ErrSince.IsZero() {
		t.Errorf("Healthy: %v, %+v", ok, worst)
	}
	if _, err := f.m.Acquire(t.Context(), "p/new"); !errors.Is(err, multidb.ErrRootMissing) {
		t.Errorf("Acquire: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root was made: %v", err)
	}
	makeDB(t, root+"/p/databases/a.db", 1)
	becomes(t, "healthy", func() bool {
		ok, _ := f.m.Healthy(time.Hour)
		return ok && f.m.ScanErr() == nil && f.m.Stats().Databases == 1
	})
	f.insert("p/a", "x")
	if err := f.m.Do(t.Context(), "p/new", nothing); err != nil {
		t.Error(err)
	}
}

func TestARootThatWentIsNotMadeAgainByAcquire(t *testing.T) {
	root := newTree(t, 1, 1)
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()), multidb.WithIdleTimeout(time.Millisecond))
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.m.Acquire(t.Context(), "project0/new"); !errors.Is(err, multidb.ErrRootMissing) {
		t.Errorf("Acquire: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root was made: %v", err)
	}
	becomes(t, "not healthy", func() bool { return f.m.ScanErr() != nil })
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	becomes(t, "healthy", func() bool { ok, _ := f.m.Healthy(time.Hour); return ok })
	f.insert("project0/db0", "x")
}

// TestAVolumeThatIsNotMountedAtTheStartIsNotEmptied puts an empty directory in the
// root's place while nothing runs, as an unmounted volume leaves it.
func TestAVolumeThatIsNotMountedAtTheStartIsNotEmptied(t *testing.T) {
	for _, hydrate := range []bool{false, true} {
		for _, leftover := range []bool{false, true} {
			t.Run(fmt.Sprintf("restore on open %v, a file below the mount point %v", hydrate, leftover), func(t *testing.T) {
				root, state, rep := newTree(t, 1, 3), t.TempDir(), multidbtest.NewReplica()
				opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state), multidb.WithPromotion(0, 0)}
				if hydrate {
					opts = append(opts, multidb.WithRestoreOnOpen())
				}
				f := start(t, root, opts...)
				f.insert("project0/db1", "x")
				if err := f.close(); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.Rename(root, root+".away"), os.Mkdir(root, 0o755)); err != nil {
					t.Fatal(err)
				}
				if leftover {
					makeDB(t, root+"/project0/databases/db2.db", 3)
				}
				for range 2 { // the second start has what the first left
					g := start(t, root, opts...)
					writes := countWrites(rep, "db0", "db1")
					if n := g.m.Stats().Databases; n != 3 {
						t.Errorf("%d databases are known", n)
					}
					for _, id := range []multidb.ID{"project0/db0", "project0/db1"} {
						if _, err := g.m.Acquire(t.Context(), id); !errors.Is(err, multidb.ErrMissing) {
							t.Errorf("Acquire of %s: %v", id, err)
						}
						if _, err := g.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrMissing) {
							t.Errorf("Sync of %s: %v", id, err)
						}
					}
					if _, err := g.m.Acquire(t.Context(), "project1/new"); !errors.Is(err, multidb.ErrRootMissing) {
						t.Errorf("Acquire of a new one: %v", err)
					}
					if ok, worst := g.m.Healthy(time.Hour); ok || worst[0].ID != "" || !errors.Is(worst[0].Err, multidb.ErrRootMissing) || worst[0].ErrSince.IsZero() {
						t.Errorf("Healthy: %v, %+v", ok, worst)
					}
					if n := g.events.count(func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID != "project1/new" }); n > 0 {
						t.Errorf("%d were forgotten", n)
					}
					if !leftover && !emptyDir(t, root) {
						t.Error("something was made below the mount point")
					}
					if n := countWrites(rep, "db0", "db1"); n != writes {
						t.Errorf("%d writes to the replica", n-writes)
					}
					_ = g.close() // what is missing is not durable
				}
				if err := errors.Join(os.RemoveAll(root), os.Rename(root+".away", root)); err != nil {
					t.Fatal(err)
				}
				h := start(t, root, opts...)
				if ok, worst := h.m.Healthy(time.Hour); !ok {
					t.Errorf("mounted again: %+v", worst)
				}
				h.insert("project0/db1", "y")
				h.sync("project0/db1")
				if got := fmt.Sprint(h.restored("project0/db1", multidb.RestoreOptions{})); got != "[0 1 2 x y]" {
					t.Errorf("restored %s", got)
				}
			})
		}
	}
}

func countWrites(rep *multidbtest.Replica, names ...string) (n int) {
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpWrite && slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(op.Prefix, s) }) {
			n++
		}
	}
	return n
}

func TestAVolumeThatIsMountedLateIsFoundByAScan(t *testing.T) {
	root, state := newTree(t, 1, 2), t.TempDir()
	opts := []multidb.Option{multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(state)}
	f := start(t, root, opts...)
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := errors.Join(f.close(), os.Rename(root, root+".away"), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, opts...)
	if err := errors.Join(os.Remove(root), os.Rename(root+".away", root)); err != nil {
		t.Fatal(err)
	}
	becomes(t, "healthy", func() bool { ok, _ := g.m.Healthy(time.Hour); return ok })
	g.insert("project0/db1", "x")
	if err := g.m.Do(t.Context(), "project0/new", nothing); err != nil {
		t.Error(err)
	}
	if g.events.has(multidb.EventRemoved) {
		t.Error("one was forgotten")
	}
}

func TestAVolumeThatWasEmptiedOnPurposeIsForgottenWhenTheOperatorSaysSo(t *testing.T) {
	root, state, rep := newTree(t, 1, 2), t.TempDir(), multidbtest.NewReplica()
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state), multidb.WithRestoreOnOpen()}
	f := start(t, root, opts...)
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := errors.Join(f.close(), os.Rename(root, root+".away"), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, append(opts, multidb.WithEmptiedVolumes(true))...)
	if n := g.m.Stats().Databases; n != 0 || !g.events.has(multidb.EventEmpty) {
		t.Errorf("%d databases, told %v", n, g.events.has(multidb.EventEmpty))
	}
	g.insert("project0/db0", "restored")
	g.sync("project0/db0")
	if err := g.close(); err != nil {
		t.Fatal(err)
	}
	h := start(t, root, opts...) // and that was it
	if ok, worst := h.m.Healthy(time.Hour); !ok || h.m.Stats().Databases != 1 {
		t.Errorf("the start after it: %+v", worst)
	}
}

// The opposite, so that the ones above do not pass by keeping everything.
func TestWhatWasDeletedWhileNothingRanIsForgotten(t *testing.T) {
	for n := range 3 {
		root, state := newTree(t, 1, 2), t.TempDir()
		opts := []multidb.Option{multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(state)}
		f := start(t, root, opts...)
		f.sync("project0/db0")
		f.sync("project0/db1")
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if err := os.Remove(fmt.Sprintf("%s/project0/databases/db%d.db", root, i)); err != nil {
				t.Fatal(err)
			}
		}
		g := start(t, root, opts...)
		if got := g.m.Stats().Databases; got != 2-n {
			t.Errorf("%d of 2 deleted: %d are known", n, got)
		}
		if ok, worst := g.m.Healthy(time.Hour); !ok {
			t.Errorf("%+v", worst)
		}
	}
}

// TestARootThatIsMadeAnewOnItsFileSystemIsEmpty, not unmounted, while the process
// runs and knows the number of its device.
func TestARootThatIsMadeAnewOnItsFileSystemIsEmpty(t *testing.T) {
	root := newTree(t, 1, 2)
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()))
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := errors.Join(os.Rename(root, root+".old"), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	becomes(t, "forgotten", func() bool { return f.m.Stats().Databases == 0 })
	if err := f.m.Do(t.Context(), "project0/new", nothing); err != nil {
		t.Error(err)
	}
	if ok, worst := f.m.Healthy(time.Hour); !ok {
		t.Errorf("%+v", worst)
	}
}

// TestNothingNewIsMadeWhereARootWasUnmounted while the process runs: the root is a
// symlink, which comes to lead to an empty directory of another file system.
func TestNothingNewIsMadeWhereARootWasUnmounted(t *testing.T) {
	volume, below := newTree(t, 1, 1), otherVolume(t)
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Symlink(volume, root); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(t.TempDir()), multidb.WithIdleTimeout(time.Millisecond))
	f.sync("project0/db0")
	if err := errors.Join(os.Remove(root), os.Symlink(below, root)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // before a scan, and after
		if _, err := f.m.Acquire(t.Context(), "project0/new"); !errors.Is(err, multidb.ErrRootMissing) {
			t.Errorf("Acquire: %v", err)
		}
		becomes(t, "told", func() bool { return errors.Is(f.m.ScanErr(), multidb.ErrRootMissing) })
	}
	if n := f.m.Stats().Databases; n != 1 || !emptyDir(t, below) {
		t.Errorf("%d databases", n)
	}
	if err := errors.Join(os.Remove(root), os.Symlink(volume, root)); err != nil {
		t.Fatal(err)
	}
	becomes(t, "healthy", func() bool { ok, _ := f.m.Healthy(time.Hour); return ok })
	if err := f.m.Do(t.Context(), "project0/new", nothing); err != nil {
		t.Error(err)
	}
}

// otherVolume is a directory of another file system than the tests' others.
func otherVolume(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "multidb-roots-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if device(t, dir) == device(t, t.TempDir()) {
		t.Skip("one file system")
	}
	return dir
}

// TestAVolumeBelowTheRootThatIsNotMountedAtTheStartIsNotEmptied has one project on
// another file system, behind a symlink that then leads to an empty directory.
func TestAVolumeBelowTheRootThatIsNotMountedAtTheStartIsNotEmptied(t *testing.T) {
	root, state, rep := newTree(t, 1, 1), t.TempDir(), multidbtest.NewReplica()
	volume := otherVolume(t)
	makeDB(t, volume+"/databases/a.db", 1)
	if err := os.Symlink(volume, root+"/project1"); err != nil {
		t.Fatal(err)
	}
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithStateDir(state)}
	f := start(t, root, opts...)
	f.sync("project1/a")
	f.sync("project0/db0")
	if err := errors.Join(f.close(), os.Remove(root+"/project1"), os.Mkdir(root+"/project1", 0o755)); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, opts...)
	if _, err := g.m.Acquire(t.Context(), "project1/a"); !errors.Is(err, multidb.ErrMissing) {
		t.Errorf("Acquire: %v", err)
	}
	if n := g.m.Stats().Databases; n != 2 || !emptyDir(t, root+"/project1") {
		t.Errorf("%d databases are known", n)
	}
	g.insert("project0/db0", "x") // the rest goes on
	g.sync("project0/db0")
	if err := errors.Join(os.Remove(root+"/project1"), os.Symlink(volume, root+"/project1")); err != nil {
		t.Fatal(err)
	}
	becomes(t, "well", func() bool { ok, _ := g.m.Healthy(time.Hour); return ok })
	g.insert("project1/a", "x")
}

// TestAVolumeWhoseNumberChangedIsKnownByItsFiles: a reboot gives devices other
// numbers. One tenant that was deleted meanwhile is forgotten all the same. Most
// of the root's are another discoverer's, which lists after the first.
func TestAVolumeWhoseNumberChangedIsKnownByItsFiles(t *testing.T) {
	root, state := newTree(t, 1, 4), t.TempDir()
	for i := range 6 {
		makeDB(t, fmt.Sprintf("%s/project0/others/o%d.db", root, i), 1)
	}
	opts := []multidb.Option{multidb.WithReplica(multidbtest.NewReplica()), multidb.WithStateDir(state),
		multidb.WithDiscoverer(multidb.Glob(root + "/{{project}}/others/{{database}}.db"))}
	f := start(t, root, opts...)
	for i := range 4 {
		f.sync(multidb.ID(fmt.Sprint("project0/db", i)))
	}
	for i := range 6 {
		f.sync(multidb.ID(fmt.Sprint("project0/o", i)))
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(t.Context(), state, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rec, err := range c.Load(t.Context()) {
		if err != nil || rec.Flags == 0 {
			t.Fatalf("device %d, %v", rec.Flags, err)
		}
		n++
		rec.Flags++
		rec.Dev++
		rec.Vars, rec.State, rec.Files = slices.Clone(rec.Vars), slices.Clone(rec.State), slices.Clone(rec.Files)
		c.Put(rec)
	}
	path := filepath.Join(state, "roots.json")
	b, err := os.ReadFile(path)
	if err := errors.Join(err, c.Close(t.Context())); err != nil || n != 10 {
		t.Fatal(n, err)
	}
	var v struct {
		Format int                          `json:"format"`
		Roots  map[string]map[string]uint64 `json:"roots"`
	}
	if err := json.Unmarshal(b, &v); err != nil || len(v.Roots) != 1 {
		t.Fatalf("%s: %v", b, err)
	}
	for _, r := range v.Roots {
		r["dev"]++
	}
	if b, err = json.Marshal(v); err == nil {
		err = errors.Join(os.WriteFile(path, b, 0o600), os.Remove(root+"/project0/databases/db3.db"))
	}
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, root, opts...)
	if ok, worst := g.m.Healthy(time.Hour); !ok || g.m.Stats().Databases != 9 || g.events.has(multidb.EventScanFailed) {
		t.Errorf("%d databases, %+v", g.m.Stats().Databases, worst)
	}
	if err := g.m.Do(t.Context(), "project0/new", nothing); err != nil {
		t.Error(err)
	}
}

func TestAGarbledRecordOfTheRootsIsToldAndNoHindrance(t *testing.T) {
	root, state := newTree(t, 1, 1), t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "roots.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithStateDir(state))
	if ok, worst := f.m.Healthy(time.Hour); !ok || !f.events.has(multidb.EventState) {
		t.Errorf("told %v, %+v", f.events.has(multidb.EventState), worst)
	}
}

func TestAListingThatFailsMakesTheFleetNotWell(t *testing.T) {
	root := newTree(t, 1, 2)
	d := &flaky{Discoverer: multidb.Glob(pattern(root))}
	m, err := multidb.New(multidb.WithDiscoverer(d), multidb.WithStateDir(t.TempDir()), multidb.WithScanInterval(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	becomes(t, "healthy", func() bool { ok, _ := m.Healthy(time.Hour); return ok })
	broken := errors.New("input/output error")
	d.set(broken)
	becomes(t, "not healthy", func() bool { ok, _ := m.Healthy(time.Hour); return !ok })
	if _, worst := m.Healthy(time.Hour); len(worst) != 1 || !errors.Is(worst[0].Err, broken) || worst[0].ErrSince.IsZero() || !errors.Is(m.ScanErr(), broken) || m.Stats().FailingScans != 1 {
		t.Errorf("%+v, %v", worst, m.ScanErr())
	}
	d.set(nil)
	becomes(t, "healthy again", func() bool {
		ok, _ := m.Healthy(time.Hour)
		return ok && m.ScanErr() == nil && m.Stats().FailingScans == 0
	})
}

func TestAFleetWithoutDatabasesIsToldAndNoError(t *testing.T) {
	f := start(t, t.TempDir())
	if ok, _ := f.m.Healthy(0); !ok || !f.events.has(multidb.EventEmpty) {
		t.Errorf("healthy %v, told %v", ok, f.events.has(multidb.EventEmpty))
	}
	if g := start(t, newTree(t, 1, 1)); g.events.has(multidb.EventEmpty) {
		t.Error("told of a fleet of one")
	}
}

func device(t *testing.T, path string) any {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.Indirect(reflect.ValueOf(info.Sys())).FieldByName("Dev").Interface()
}
