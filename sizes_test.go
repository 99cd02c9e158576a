package multidb_test

import (
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// checkSizes compares what Status and Stats say with the files and the replica.
func checkSizes(t *testing.T, f *fleet, rep *multidbtest.Replica, when string) {
	t.Helper()
	var local, bytes, objects int64
	for s := range f.m.All() {
		var file, held int64
		for _, path := range []string{s.Path, s.Path + "-wal"} {
			if fi, err := os.Stat(path); err == nil {
				file += fi.Size()
			}
		}
		files := rep.Files(s.Prefix)
		for _, info := range files {
			held += info.Size
		}
		if s.LocalBytes != file {
			t.Errorf("%s: %s has %d bytes here, Status says %d", when, s.ID, file, s.LocalBytes)
		}
		if !s.ReplicaSized || s.ReplicaBytes != held || s.ReplicaObjects != int64(len(files))+1 {
			t.Errorf("%s: %s has %d bytes in %d files at the replica, Status says %d in %d objects, known: %v", when, s.ID, held, len(files), s.ReplicaBytes, s.ReplicaObjects, s.ReplicaSized)
		}
		local, bytes, objects = local+file, bytes+held, objects+int64(len(files))+1
	}
	s := f.m.Stats()
	if s.LocalBytes != local || s.ReplicaBytes != bytes || s.ReplicaObjects != objects || s.ReplicaUnsized != 0 {
		t.Errorf("%s: Stats says %d, %d in %d, %d not known; want %d, %d in %d", when, s.LocalBytes, s.ReplicaBytes, s.ReplicaObjects, s.ReplicaUnsized, local, bytes, objects)
	}
}

// TestSizesAreKnownWithoutAListing: what Status and Stats say is what is on the disk and at
// the replica, after work, and after a restart without any request.
func TestSizesAreKnownWithoutAListing(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 3)
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithPromotion(0, 0)}
	f := start(t, root, opts...)
	f.insert("project0/db1", string(make([]byte, 200_000)))
	for i := range 3 {
		f.sync(multidb.ID(fmt.Sprintf("project0/db%d", i)))
	}
	if top := f.m.Largest(1, multidb.BySizeReplica); len(top) != 1 || top[0].ReplicaBytes == 0 {
		t.Errorf("the largest at the replica is %+v", top)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	rep.ResetOperations()
	f = start(t, root, opts...)
	checkSizes(t, f, rep, "after a restart")
	if ops := rep.Operations(); len(ops) != 0 {
		t.Errorf("%d requests were made: %v", len(ops), ops)
	}
	top := f.m.Largest(2, multidb.BySizeLocal)
	if len(top) != 2 || top[0].ID != "project0/db1" || top[1].ID != "project0/db0" {
		t.Errorf("the largest are %v", top)
	}
}

// TestAnEvictedDatabaseTakesNothingHereAndKeepsItsSizeAtTheReplica: after a restart too.
func TestAnEvictedDatabaseTakesNothingHereAndKeepsItsSizeAtTheReplica(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithPromotion(0, 0), multidb.WithMaxDisk(1 << 30)}
	f := start(t, root, opts...)
	f.sync("project0/db0")
	f.sync("project0/db1")
	if err := f.m.Evict(t.Context(), "project0/db0"); err != nil {
		t.Fatal(err)
	}
	if s, err := f.m.Status("project0/db0"); err != nil || s.Resident || s.LocalBytes != 0 || s.ReplicaBytes == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f = start(t, root, opts...)
	checkSizes(t, f, rep, "after a restart")
	if top := f.m.Largest(1, multidb.BySizeLocal); len(top) != 1 || top[0].ID != "project0/db1" {
		t.Errorf("the largest is %v", top)
	}
}

func TestWhatADatabaseCostsAMonthIsItsBytesTimesThePrice(t *testing.T) {
	s := multidb.Status{ReplicaBytes: 2_500_000_000}
	if got := s.MonthlyCost(multidb.S3StandardStorage()); math.Abs(got-0.0575) > 1e-9 {
		t.Errorf("2.5 GB cost %v USD, want 0.0575", got)
	}
	if got := s.MonthlyCost(multidb.StoragePrices{}); got != 0 {
		t.Errorf("without a price it costs %v", got)
	}
}
