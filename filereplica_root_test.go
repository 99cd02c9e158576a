package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const marker = ".multidb-replica"

// memory is what a program remembers of its replicas.
type memory struct {
	mu    sync.Mutex
	ids   map[string]string
	fails error
}

func (m *memory) Recall(place string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[place], nil
}

func (m *memory) Remember(place, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.ids[place] = id
	return nil
}

func (*memory) Name() string { return "the memory" }

// volume is a directory that can be mounted and unmounted, by renaming it.
type volume struct {
	t         *testing.T
	dir, away string
}

func newVolume(t *testing.T, made bool) volume {
	t.Helper()
	top := t.TempDir()
	v := volume{t, filepath.Join(top, "mnt"), filepath.Join(top, "volume")}
	if made {
		v.must(os.Mkdir(v.dir, 0o755))
	}
	return v
}

func (v volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v volume) unmount() { v.t.Helper(); v.must(os.Rename(v.dir, v.away)) }

// mount puts the volume over what stands there, which must be as it was.
func (v volume) mount() {
	v.t.Helper()
	v.must(os.RemoveAll(v.dir))
	v.must(os.Rename(v.away, v.dir))
}

// fileCalls are all calls that say something of the replica, or change it.
func fileCalls(t *testing.T, r *multidb.FileReplica) map[string]func() error {
	c := replicaClient(t, r, acme)
	md := c.(multidb.MetadataStore)
	return map[string]func() error{
		"list": func() error { _, err := c.LTXFiles(t.Context(), 0, 0, false); return err },
		"list all": func() error {
			_, err := c.(multidb.FileLister).AllLTXFiles(t.Context(), true)
			return err
		},
		"open": func() error { _, err := c.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0); return err },
		"write": func() error {
			_, err := c.WriteLTXFile(t.Context(), 0, 2, 2, strings.NewReader(string(ltxBytes(t, 2, time.UnixMilli(1000)))))
			return err
		},
		"delete":         func() error { return c.DeleteLTXFiles(t.Context(), nil) },
		"delete all":     func() error { return c.DeleteAll(t.Context()) },
		"read metadata":  func() error { _, err := md.ReadMetadata(t.Context()); return err },
		"write metadata": func() error { return md.WriteMetadata(t.Context(), []byte("{}")) },
		"check":          func() error { return r.Check(t.Context()) },
		"tenants": func() error {
			for _, err := range r.Tenants(t.Context()) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func TestAFileReplicaThatIsAwayIsAnErrorOfEveryCallAndIsLeftAlone(t *testing.T) {
	imposters := map[string]func(v volume){
		"the directory is not there":       func(volume) {},
		"the mount point is empty":         func(v volume) { v.must(os.Mkdir(v.dir, 0o755)) },
		"a volume without marker is there": func(v volume) { v.must(os.MkdirAll(filepath.Join(v.dir, "acme", "ltx", "0"), 0o755)) },
		"the volume of another replica is": func(v volume) {
			putLTX(v.t, replicaClient(v.t, fileReplica(v.t, v.dir+"2", "{{project}}"), acme), 0, 1)
			v.must(os.Rename(v.dir+"2", v.dir))
		},
		"a volume with an empty marker is": func(v volume) {
			v.must(os.Mkdir(v.dir, 0o755))
			v.must(os.WriteFile(filepath.Join(v.dir, marker), nil, 0o600))
		},
		"a volume with an endless marker is": func(v volume) {
			v.must(os.Mkdir(v.dir, 0o755))
			v.must(os.WriteFile(filepath.Join(v.dir, marker), make([]byte, 1<<20), 0o600))
		},
	}
	knows := map[string]func(v volume) *multidb.FileReplica{
		"by having used it": nil,
		"by its memory": func(v volume) *multidb.FileReplica {
			mem := &memory{ids: map[string]string{}}
			r := fileReplica(v.t, v.dir, "{{project}}")
			v.must(r.Identify(mem))
			putLTX(v.t, replicaClient(v.t, r, acme), 0, 1)
			again := fileReplica(v.t, v.dir, "{{project}}")
			v.must(again.Identify(mem))
			return again
		},
	}
	for how, know := range knows {
		for what, imposter := range imposters {
			t.Run(what+", known "+how, func(t *testing.T) {
				v := newVolume(t, true)
				var r *multidb.FileReplica
				if know == nil {
					r = fileReplica(t, v.dir, "{{project}}")
					putLTX(t, replicaClient(t, r, acme), 0, 1)
				} else {
					r = know(v)
				}
				v.unmount()
				imposter(v)
				var before []string
				if _, err := os.Stat(v.dir); err == nil {
					before = tree(t, v.dir)
				}
				for call, do := range fileCalls(t, r) {
					err := do()
					if !errors.Is(err, multidb.ErrReplicaAway) || errors.Is(err, fs.ErrNotExist) || multidb.ReasonOf(err) != multidb.ReasonUnreachable {
						t.Errorf("%s: error is %v, want ErrReplicaAway", call, err)
					}
				}
				var after []string
				if _, err := os.Stat(v.dir); err == nil {
					after = tree(t, v.dir)
				}
				if !slices.Equal(before, after) {
					t.Errorf("there is now %q, was %q", after, before)
				}
				v.mount()
				putLTX(t, replicaClient(t, r, acme), 0, 2)
				if got := filesOf(t, r); got != 2 {
					t.Errorf("%d files, want 2", got)
				}
			})
		}
	}
}

func filesOf(t *testing.T, r *multidb.FileReplica) int {
	t.Helper()
	files, err := multidb.ReplicaFiles(t.Context(), r, acme, false)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestADirectoryThatAFileReplicaMadeIsMissedByEveryOther(t *testing.T) {
	v := newVolume(t, false)
	putLTX(t, replicaClient(t, fileReplica(t, v.dir, "{{project}}"), acme), 0, 1)
	v.unmount()
	for call, do := range fileCalls(t, fileReplica(t, v.dir, "{{project}}")) {
		if err := do(); !errors.Is(err, multidb.ErrReplicaAway) {
			t.Errorf("%s: error is %v, want ErrReplicaAway", call, err)
		}
	}
	v.mount()
	if got := filesOf(t, fileReplica(t, v.dir, "{{project}}")); got != 1 {
		t.Errorf("%d files, want 1", got)
	}
}

func TestWhatWasReadAsAnEmptyReplicaIsNotTakenForAnotherThatIsMountedThen(t *testing.T) {
	for _, made := range []bool{true, false} {
		v := newVolume(t, true)
		putLTX(t, replicaClient(t, fileReplica(t, v.dir, "{{project}}"), acme), 0, 1)
		v.unmount()
		if made {
			v.must(os.Mkdir(v.dir, 0o755))
		}
		r := fileReplica(t, v.dir, "{{project}}") // nothing tells it that this is not the first use
		if got := filesOf(t, r); got != 0 {
			t.Fatalf("%d files", got)
		}
		v.mount()
		for call, do := range fileCalls(t, r) {
			if err := do(); !errors.Is(err, multidb.ErrReplicaAway) {
				t.Errorf("made %v: %s: error is %v, want ErrReplicaAway", made, call, err)
			}
		}
	}
}

func TestADirectoryOfBeforeMarkersIsReadAndGetsItsMarkerAtTheFirstWrite(t *testing.T) {
	v := newVolume(t, true)
	old := fileReplica(t, v.dir, "{{project}}")
	putLTX(t, replicaClient(t, old, acme), 0, 1)
	v.must(os.Remove(filepath.Join(v.dir, marker)))

	r := fileReplica(t, v.dir, "{{project}}")
	if got := filesOf(t, r); got != 1 {
		t.Errorf("%d files, want 1", got)
	}
	if _, err := os.Stat(filepath.Join(v.dir, marker)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a marker: %v", err)
	}
	// Unmounted between the two: what is there now was not read.
	v.unmount()
	v.must(os.Mkdir(v.dir, 0o755))
	if err := fileCalls(t, r)["write"](); !errors.Is(err, multidb.ErrReplicaAway) {
		t.Errorf("a write elsewhere: error is %v", err)
	}
	v.mount()
	putLTX(t, replicaClient(t, r, acme), 0, 2)
	if _, err := os.Stat(filepath.Join(v.dir, marker)); err != nil {
		t.Error(err)
	}
}

func TestSeveralThatUseADirectoryFirstAtOnceAgreeOnItsMarker(t *testing.T) {
	for range 20 {
		v := newVolume(t, false)
		mems := make([]*memory, 8)
		var wg sync.WaitGroup
		for i := range mems {
			mems[i] = &memory{ids: map[string]string{}}
			r := fileReplica(t, v.dir, "{{project}}")
			v.must(r.Identify(mems[i]))
			if i%2 == 0 {
				filesOf(t, r) // as empty
			}
			c := replicaClient(t, r, acme)
			wg.Go(func() {
				if _, err := c.WriteLTXFile(context.Background(), 1, 1, 1, strings.NewReader(string(ltxBytes(t, 1, time.UnixMilli(1000))))); err != nil && !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, m := range mems {
			if m.ids[v.dir] == "" || m.ids[v.dir] != mems[0].ids[v.dir] {
				t.Fatalf("identities %q and %q", m.ids[v.dir], mems[0].ids[v.dir])
			}
		}
	}
}

func TestNothingIsWrittenBeforeItsPlaceIsRemembered(t *testing.T) {
	v := newVolume(t, true)
	r := fileReplica(t, v.dir, "{{project}}")
	mem := &memory{ids: map[string]string{}, fails: errors.New("no space")}
	v.must(r.Identify(mem))
	for range 2 {
		if err := fileCalls(t, r)["write"](); !errors.Is(err, mem.fails) {
			t.Errorf("error is %v, want that of the memory", err)
		}
	}
	if got := tree(t, v.dir); !slices.Equal(got, []string{marker}) {
		t.Errorf("written: %q", got)
	}
	mem.fails = nil
	putLTX(t, replicaClient(t, r, acme), 0, 1)
}

func TestLinksThatLeadOutOfAFileReplicaAreFollowed(t *testing.T) {
	v, other := newVolume(t, true), t.TempDir()
	v.must(os.Symlink(other, filepath.Join(v.dir, "acme")))
	r := fileReplica(t, v.dir, "{{project}}")
	c := replicaClient(t, r, acme)
	putLTX(t, c, 0, 1)
	if _, err := os.Stat(filepath.Join(other, "ltx")); err != nil {
		t.Error(err)
	}
	v.must(c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte("{}")))
	if got := filesOf(t, r); got != 1 {
		t.Errorf("%d files, want 1", got)
	}
	for call, do := range fileCalls(t, r) {
		if call == "delete all" {
			continue
		}
		if err := do(); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// The mount point is there when the volume is not, and only the state directory
// knows better.
func TestAManagerKnowsItsFileReplicaAfterARestart(t *testing.T) {
	v := newVolume(t, true)
	root := newTree(t, 1, 1)
	const id = "project0/db0"
	open := func() *fleet {
		return start(t, root, multidb.WithReplica(fileReplica(t, v.dir, "{{project}}/{{database}}")),
			multidb.WithRestoreOnOpen(), multidb.WithColdSyncInterval(50*time.Millisecond), multidb.WithSyncInterval(10*time.Millisecond))
	}
	f := open()
	f.insert(id, "one")
	f.sync(id)
	if err := f.close(); err != nil {
		t.Error(err)
	}

	v.unmount()
	v.must(os.Mkdir(v.dir, 0o755))
	f = open()
	f.insert(id, "two")
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrReplicaAway) {
		t.Errorf("Sync: error is %v, want ErrReplicaAway", err)
	}
	err := f.m.Do(t.Context(), "project0/new", func(*sql.DB) error { return nil })
	if !errors.Is(err, multidb.ErrReplicaAway) {
		t.Errorf("a database that may be in the replica: error is %v, want ErrReplicaAway", err)
	}
	if ok, _ := f.m.Healthy(time.Minute); ok {
		t.Error("healthy")
	}
	if got := tree(t, v.dir); len(got) > 0 {
		t.Errorf("written below the mount point: %q", got)
	}
	v.mount()
	f.sync(id)
	f.healthy(true, "")
	if err := f.close(); err != nil {
		t.Error(err)
	}

	// A machine that has nothing knows it by its marker.
	out := filepath.Join(t.TempDir(), "out.db")
	db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "project", Value: "project0"}, {Name: "database", Value: "db0"}}}
	if err := multidb.RestoreFrom(t.Context(), fileReplica(t, v.dir, "{{project}}/{{database}}"), db, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Error(err)
	}
}

func TestAStateDirectoryWhoseMemoryOfTheReplicaIsDamagedDoesNotStart(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "replica.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(multidb.WithReplica(fileReplica(t, t.TempDir(), "{{project}}")), multidb.WithStateDir(state),
		multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/{{project}}.db")))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "replica.json") {
		t.Errorf("error is %v, want one that names the file", err)
	}
}
