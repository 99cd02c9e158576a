package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// damaged ships two databases to a file replica and damages the first.
func damaged(t *testing.T, damage func(prefix string)) (rep func() *multidb.FileReplica, root string) {
	t.Helper()
	dir := t.TempDir()
	rep = func() *multidb.FileReplica { return fileReplica(t, dir, "{{project}}/{{database}}") }
	root = newTree(t, 1, 2)
	f := start(t, root, multidb.WithReplica(rep()))
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	damage(filepath.Join(dir, "project0", "db0"))
	return rep, root
}

func changeLTX(t *testing.T, at int, with ...byte) func(prefix string) {
	return func(prefix string) {
		files, err := filepath.Glob(filepath.Join(prefix, "ltx", "*", "*.ltx"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(data[at:], with)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// cheaply fails if what is done allocates more than most bytes.
func cheaply(t *testing.T, most uint64, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%d bytes were allocated, want %d at most", n, most)
	}
}

func TestADamagedLTXFileIsAnErrorOfItsTenantAndCostsNoMemory(t *testing.T) {
	const page = ltx.HeaderSize + ltx.PageHeaderSize
	for name, damage := range map[string]func(prefix string){
		"a page of 4 GiB":      changeLTX(t, page, 0xff, 0xff, 0xff, 0xf0),
		"a page size of 1 GiB": changeLTX(t, 8, 0x40),
	} {
		t.Run(name, func(t *testing.T) {
			rep, _ := damaged(t, damage)
			f := start(t, t.TempDir(), multidb.WithReplica(rep()), multidb.WithRestoreOnOpen())
			cheaply(t, 256<<20, func() {
				out := filepath.Join(t.TempDir(), "out.db")
				if err := f.m.Restore(t.Context(), "project0/db0", multidb.RestoreOptions{OutputPath: out}); !errors.Is(err, multidb.ErrDamaged) {
					t.Errorf("Restore: error is %v, want ErrDamaged", err)
				}
			})
			f.insert("project0/db1", "x") // is restored, and goes on
			f.sync("project0/db1")
		})
	}
}

func TestADamagedLTXFileIsFoundByWhoComparesItWithTheWAL(t *testing.T) {
	rep, root := damaged(t, changeLTX(t, ltx.HeaderSize+ltx.PageHeaderSize, 0xff, 0xff, 0xff, 0xf0))
	if err := os.RemoveAll(filepath.Join(root, ".multidb")); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(rep()))
	cheaply(t, 256<<20, func() {
		f.insert("project0/db0", "x")
		_, _ = f.m.Sync(t.Context(), "project0/db0") // it may do without that file
	})
	f.sync("project0/db1") // is the same as its replica, as long as nobody writes to it
	f.insert("project0/db1", "x")
	f.sync("project0/db1")
}

func TestMetadataWithoutEndIsAnErrorOfItsTenant(t *testing.T) {
	rep, root := damaged(t, func(prefix string) {
		if err := os.Truncate(filepath.Join(prefix, "metadata.json"), 1<<30); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.RemoveAll(filepath.Join(root, ".multidb")); err != nil { // or it is not read
		t.Fatal(err)
	}
	cheaply(t, 128<<20, func() {
		f := start(t, root, multidb.WithReplica(rep()))
		f.failed("project0/db0", multidb.ErrDamaged)
		f.sync("project0/db1")
		found := 0
		for db, err := range rep().Tenants(t.Context()) {
			var of *multidb.Error
			if db.ID == "project0/db1" && err == nil {
				found++
			} else if errors.Is(err, multidb.ErrDamaged) && errors.As(err, &of) {
				found++
			} else {
				t.Errorf("%+v, %v", db, err)
			}
		}
		if found != 2 {
			t.Errorf("%d tenants", found)
		}
		_ = f.close() // which names the one
	})
}

// endless is a replica with files without end.
type endless struct{}

func (endless) ReplicaClient(multidb.Database) (litestream.ReplicaClient, error) {
	return endlessClient{}, nil
}

type endlessClient struct{ litestream.ReplicaClient }

func (endlessClient) LTXFiles(_ context.Context, level int, _ ltx.TXID, _ bool) (ltx.FileIterator, error) {
	return &endlessFiles{info: ltx.FileInfo{Level: level, MinTXID: 1, MaxTXID: 1}}, nil
}

type endlessFiles struct {
	info   ltx.FileInfo
	closed bool
}

func (i *endlessFiles) Next() bool          { return true }
func (i *endlessFiles) Item() *ltx.FileInfo { return &i.info }
func (i *endlessFiles) Err() error          { return nil }
func (i *endlessFiles) Close() error        { i.closed = true; return nil }

func TestAListingWithoutEndIsAnErrorOfItsTenant(t *testing.T) {
	if _, err := multidb.ReplicaFiles(t.Context(), endless{}, acme, false); !errors.Is(err, multidb.ErrDamaged) {
		t.Errorf("error is %v, want ErrDamaged", err)
	}
	if _, err := multidb.TenantAt(nil, "a", bytes.Repeat([]byte(" "), 1<<20+1)); !errors.Is(err, multidb.ErrDamaged) {
		t.Errorf("metadata: error is %v, want ErrDamaged", err)
	}
}

func TestNothingIsLeftInTheReplicaOfAFileThatIsCorruptAtItsFirstSight(t *testing.T) {
	dir := t.TempDir()
	rep := fileReplica(t, dir, "{{project}}/{{database}}")
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/db0.db")
	whole, err := os.ReadFile(path) // nothing has it open
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	copy(bad[100:], bytes.Repeat([]byte{0x5a}, 400)) // the schema's page
	copy(bad[16:], []byte{0, 3})                     // a page size that cannot be
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, root, multidb.WithReplica(rep), multidb.WithColdSyncInterval(50*time.Millisecond), multidb.WithSyncInterval(10*time.Millisecond))
	if _, err := f.m.Sync(t.Context(), "project0/db0"); err == nil {
		t.Fatal("it is not corrupt")
	}
	if _, err := os.Stat(filepath.Join(dir, "project0")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the replica has something of it: %v, %v", tree(t, dir), err)
	}
	tmp := path + ".new"
	if err := errors.Join(os.WriteFile(tmp, whole, 0o600), os.Rename(tmp, path)); err != nil {
		t.Fatal(err)
	}
	f.sync("project0/db0")
	if got := strings.Join(tree(t, dir), " "); !strings.Contains(got, "project0/db0/metadata.json") {
		t.Errorf("then it has %s", got)
	}
}

func TestADatabaseThatWasNeverShippedIsNotWellHoweverColdItIs(t *testing.T) {
	root := newTree(t, 1, 2)
	// None is looked at by itself for an hour or so.
	opts := []multidb.Option{multidb.WithColdSyncInterval(100 * time.Hour)}
	run := func(rep multidb.ReplicaFactory, shipped bool) {
		t.Helper()
		old := time.Now().Add(-72 * time.Hour)
		for _, name := range []string{"db0", "db1"} {
			if err := os.Chtimes(filepath.Join(root, "project0/databases", name+".db"), old, old); err != nil {
				t.Fatal(err)
			}
		}
		f := start(t, root, append(opts, multidb.WithReplica(rep))...)
		if shipped {
			f.healthy(true, "")
		} else {
			f.healthy(false, "project0/db0") // once it is known to be a database
			if _, worst := f.m.Healthy(time.Hour); len(worst) == 0 || worst[0].Lag < 71*time.Hour {
				t.Errorf("worst are %+v", worst)
			}
		}
		f.sync("project0/db0")
		f.sync("project0/db1")
		f.healthy(true, "")
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}
	first := multidbtest.NewReplica()
	run(first, false)
	run(first, true)
	run(multidbtest.NewReplica(multidbtest.WithPathTemplate("new/{{project}}/{{database}}")), false)
}

func TestAnEmptyDatabaseIsWellAlsoAfterARestart(t *testing.T) {
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/empty.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-72 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	rep := multidbtest.NewReplica()
	for range 2 {
		f := start(t, root, multidb.WithReplica(rep), multidb.WithColdSyncInterval(50*time.Millisecond), multidb.WithSyncInterval(10*time.Millisecond))
		f.healthy(true, "")
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}
}
