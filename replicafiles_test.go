package multidb_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestAManagerListsWhatTheReplicaKeepsByOneRequest(t *testing.T) {
	replica := multidbtest.NewReplica()
	root := newTree(t, 1, 1)
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(replica))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	pos, err := m.Sync(t.Context(), "project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Status("project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	lists := replica.RequestStats().List
	files, err := m.ReplicaFiles(t.Context(), "project0/db0", false)
	if err != nil || len(files) == 0 || files[len(files)-1].MaxTXID != pos.TXID {
		t.Fatalf("got %v, %v; want files up to %v", files, err, pos.TXID)
	}
	if n := replica.RequestStats().List - lists; n != 1 {
		t.Errorf("%d lists, want 1", n)
	}
	if want, err := multidb.ReplicaFiles(t.Context(), replica, s.Database, false); err != nil || !reflect.DeepEqual(files, want) {
		t.Errorf("got %v; the function lists %v, %v", files, want, err)
	}
	// One that a pattern allows, and one that none does.
	if files, err := m.ReplicaFiles(t.Context(), "project7/db7", false); err != nil || len(files) != 0 {
		t.Errorf("of one that never was: %v, %v", files, err)
	}
	var of *multidb.Error
	if _, err := m.ReplicaFiles(t.Context(), "a/b/c/d", false); !errors.Is(err, multidb.ErrNotFound) || !errors.As(err, &of) || of.ID != "a/b/c/d" {
		t.Errorf("of an impossible ID: %v", err)
	}
}

func TestWithoutAReplicaNoFilesAreListed(t *testing.T) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(t.TempDir(), "*.db"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReplicaFiles(t.Context(), "a", false); !errors.Is(err, multidb.ErrNoReplica) {
		t.Errorf("got %v, want ErrNoReplica", err)
	}
}
