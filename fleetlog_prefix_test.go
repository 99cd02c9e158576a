package multidb_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// bareReplica is a replica with the interfaces that a fleet log needs, and no other.
type bareReplica struct {
	multidb.ReplicaFactory
	multidb.ReplicaObjects
}

func TestAReplicaThatSaysNoPrefixHasAFleetLogToo(t *testing.T) {
	root := t.TempDir()
	rep := multidbtest.NewReplica()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{tenant}}.db"))), multidb.WithReplica(bareReplica{rep, rep}),
		multidb.WithStateDir(t.TempDir()), multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet"}),
		multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour)) // so that no later run answers
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, id := range []multidb.ID{"a", "b", "c"} {
		insert(t, m, id)
		if pos, err := m.Sync(ctx, id); err != nil || pos.TXID == 0 {
			t.Errorf("Sync of %s: %+v, %v", id, pos, err)
		}
	}
}
