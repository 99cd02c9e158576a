package multidb_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/multidbtest"
)

// simNode is one node of a simulation: its machine, whether its process runs or not.
type simNode struct {
	name   string
	clock  *setClock // its wall clock, which jumps and drifts
	speed  float64   // of its monotonic clock
	stamps *stamps   // of its files, by its wall clock
	gate   *gate     // between its process and the store
	faults []*multidbtest.Injection
	rng    *rand.Rand
	dying  chan struct{} // closed when nothing of its former process runs any more
	repair func()        // makes its disk what it was when it died, or another one
}

// isDown reports whether nothing of its former process runs any more.
func (n *simNode) isDown() bool {
	select {
	case <-n.dying:
		return true
	default:
		return n.dying == nil
	}
}

func newSimNode(name string, rng *rand.Rand) *simNode {
	n := &simNode{name: name, clock: &setClock{}, speed: 0.9 + rng.Float64()/5, stamps: newStamps(), rng: rand.New(rand.NewPCG(rng.Uint64(), 23))}
	n.stamps.now = n.clock.now
	return n
}

// boot is a clock that nobody sets, and that is as wrong as a quartz never is.
func (n *simNode) boot() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Hour + time.Duration(float64(time.Since(began))*n.speed) }
}

// options are those of its next process.
func (n *simNode) options(dir string, rng *rand.Rand) []multidb.Option {
	return []multidb.Option{
		multidb.WithStateDir(filepath.Join(dir, "state")), multidb.WithWatch(false), multidb.WithClock(n.clock.now),
		multidb.WithBoot(n.boot(), 5*time.Minute), multidb.WithStat(n.stamps.stat), multidb.WithRand(jitterOf(rng.Uint64())),
	}
}

// nodeReplica is the store as a process of a node sees it: through its gate.
type nodeReplica struct {
	gatedLog
	deletes func() // called before objects of the fleet log are deleted
}

func (r *nodeReplica) Objects(dir string) (multidb.ObjectStore, error) {
	o, err := r.gatedLog.Objects(dir)
	return &nodeObjects{o, r.deletes}, err
}

type nodeObjects struct {
	multidb.ObjectStore
	deletes func()
}

func (o *nodeObjects) Delete(ctx context.Context, names ...string) error {
	o.deletes()
	return o.ObjectStore.Delete(ctx, names...)
}

func (r *nodeReplica) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	c, err := r.gatedLog.ReplicaClient(db)
	if err != nil {
		return nil, err
	}
	return &nodeClient{c.(*gatedClient)}, nil
}

type nodeClient struct{ *gatedClient }

var _ multidb.PrefixEraser = (*nodeClient)(nil)

func (c *nodeClient) ErasePrefix(ctx context.Context) (multidb.ErasedPrefix, error) {
	return ask(ctx, c.gate, multidbtest.OpDelete, func() (multidb.ErasedPrefix, error) {
		return c.ReplicaClient.(multidb.PrefixEraser).ErasePrefix(context.Background())
	})
}

// nodeDisk is what is on the disk of a node at one moment, by path.
type nodeDisk map[string][]byte

// diskOf reads it while the node's process may run. What it has in its own memory is lost with it.
func diskOf(t *testing.T, dir string) nodeDisk {
	t.Helper()
	synctest.Wait()
	d := nodeDisk{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // its process goes on
			return nil
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == localfile.KeptDir || e.Name() == "spool"):
			return fs.SkipDir
		case e.IsDir() || e.Name() == "lock" || strings.HasSuffix(path, "-shm"):
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			d[rel], err = fileAsItIs(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			delete(d, rel)
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fileAsItIs reads a file. A database is not opened but by SQLite: its locks would go.
func fileAsItIs(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".db") {
		return os.ReadFile(path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	f, err := sqlitedb.OpenFile(path)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.Size())
	if _, err = f.ReadAt(data, 0); err == io.EOF {
		err = nil
	}
	return data, errors.Join(err, f.Close())
}

// put makes a directory, which no process uses, what it was.
func (d nodeDisk) put(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == localfile.KeptDir:
			return fs.SkipDir
		case e.IsDir() || e.Name() == "lock" || d[rel] != nil:
			return nil
		}
		return os.Remove(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	for rel, data := range d {
		path := filepath.Join(dir, rel)
		if was, err := os.ReadFile(path); err == nil && string(was) == string(data) {
			continue // with its stamps
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// movePaths makes the paths of a copied catalog those of this machine: on machines of their own
// they would be the same.
func movePaths(t *testing.T, from, to string) {
	t.Helper()
	ctx := t.Context()
	c, err := catalog.Open(ctx, filepath.Join(to, "state"), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all []catalog.Record
	for rec, err := range c.Load(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if rel, err := filepath.Rel(from, rec.Path); err == nil {
			rec.Path = filepath.Join(to, rel)
		}
		all = append(all, rec)
	}
	for _, rec := range all {
		c.Put(rec)
	}
	err = c.Flush(ctx)
	if c.ClosedCleanly() {
		err = errors.Join(err, c.Close(ctx))
	} else {
		err = errors.Join(err, c.Abandon())
	}
	if err != nil {
		t.Fatal(err)
	}
}
