package multidb_test

import (
	"math"
	"os"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestWhatIsOnlyReadOnASmallDiskLeavesNoLogBehind: 32 KB of an index beside each tenant would
// be a quarter of a disk of tenants of 100 KB.
func TestWhatIsOnlyReadOnASmallDiskLeavesNoLogBehind(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithMaxDisk(math.MaxInt64))
	const id = "project0/db0"
	f.sync(id)
	if err := f.m.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	f.readAll(id)
	st, err := f.m.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(st.Path + "-shm"); err != nil {
		t.Fatalf("while it is open: %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(st.Path + suffix); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", suffix, err)
		}
	}
}
