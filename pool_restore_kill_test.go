package multidb_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// hydrateChild makes the test binary be an application that restores on open, of
// the directory it names, and never comes to the end of it.
const hydrateChild = "MULTIDB_TEST_HYDRATE_CHILD"

const killedID = "project0/db0"

func hydrateOptions(root string, replica multidb.ReplicaFactory) []multidb.Option {
	return []multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(pattern(filepath.Join(root, "data")))),
		multidb.WithStateDir(filepath.Join(root, "state")),
		multidb.WithReplica(replica), multidb.WithRestoreOnOpen(),
	}
}

func killedReplica(root string) (*multidb.FileReplica, error) {
	return multidb.NewFileReplica(filepath.Join(root, "replica"), "{{project}}/{{database}}")
}

// stalling gives half of each file that is read from its start, and then no more.
type stalling struct{ multidb.ReplicaFactory }

func (s stalling) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	c, err := s.ReplicaFactory.ReplicaClient(db)
	return stallingClient{c}, err
}

type stallingClient struct{ litestream.ReplicaClient }

func (c stallingClient) OpenLTXFile(ctx context.Context, level int, from, to ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := c.ReplicaClient.OpenLTXFile(ctx, level, from, to, offset, size)
	if err != nil {
		return nil, err
	}
	return &stalled{ReadCloser: rc, left: 300}, nil
}

type stalled struct {
	io.ReadCloser
	left int
}

func (s *stalled) Read(b []byte) (int, error) {
	if s.left == 0 {
		fmt.Println("stalled")
		select {}
	}
	n, err := s.ReadCloser.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}

func acquireAndStall(root string) {
	replica, err := killedReplica(root)
	if err != nil {
		log.Fatal(err)
	}
	m, err := multidb.New(hydrateOptions(root, stalling{replica})...)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	_, err = m.Acquire(context.Background(), killedID)
	log.Fatal("acquired: ", err)
}

func TestAKillDuringRestoreOnOpenLeavesNothingHalfMade(t *testing.T) {
	root := t.TempDir()
	replica, err := killedReplica(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(newTree(t, 1, 1), filepath.Join(root, "data")); err != nil {
		t.Fatal(err)
	}
	f := start(t, filepath.Join(root, "data"), hydrateOptions(root, replica)...)
	f.insert(killedID, "shipped")
	f.sync(killedID)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "data/project0/databases/db0.db")
	for _, dir := range []string{filepath.Dir(path), filepath.Join(root, "state")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), hydrateChild+"="+root)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "stalled\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed

	unfinished := func() (found []string) {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if strings.HasPrefix(d.Name(), ".multidb-restore-") {
				found = append(found, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if left := unfinished(); len(left) != 1 || !strings.HasPrefix(left[0], filepath.Join(root, "state")) {
		t.Errorf("the kill left %v; want one in the state directory", left)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("beside the database: %v, %v", entries, err)
	}
	g := start(t, filepath.Join(root, "data"), hydrateOptions(root, replica)...)
	if left := unfinished(); len(left) != 0 {
		t.Errorf("the next start left %v", left)
	}
	g.insert(killedID, "after")
	if got := g.restoredNow(killedID); !slices.Equal(got, []string{"0", "1", "2", "shipped", "after"}) {
		t.Errorf("then it has %v", got)
	}
}

// restoredNow ships a database and restores it.
func (f *fleet) restoredNow(id multidb.ID) []string {
	f.t.Helper()
	f.sync(id)
	return f.restored(id, multidb.RestoreOptions{})
}
