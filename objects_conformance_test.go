package multidb_test

import (
	"io"
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheS3ReplicaKeepsObjects(t *testing.T) {
	t.Parallel()
	multidbtest.TestReplicaObjects(t, s3WithObjects)
}

// s3WithObjects is an S3Replica over a store of its own.
func s3WithObjects(t *testing.T) multidb.ReplicaFactory {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	r, err := multidb.NewS3Replica(multidb.S3Config{
		Bucket: "backups", Path: "litestream/{{tenant}}", Region: "us-east-1", Endpoint: server.URL,
		AccessKeyID: "id", SecretAccessKey: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

// TestTheRequestsOfObjectsAreCountedWithTheOthers: costs are estimated from them.
func TestTheRequestsOfObjectsAreCountedWithTheOthers(t *testing.T) {
	file, err := multidb.NewFileReplica(t.TempDir(), "litestream/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]multidb.ReplicaFactory{"s3": s3WithObjects(t), "file": file, "memory": multidbtest.NewReplica()} {
		objects, err := r.(multidb.ReplicaObjects).Objects("fleet")
		if err != nil {
			t.Fatal(err)
		}
		if err := objects.Create(t.Context(), "a/1", []byte("what finds out what the store can do")); err != nil {
			t.Fatal(err)
		}
		stats := r.(multidb.ReplicaStats).RequestStats
		before := stats()
		if err := objects.Create(t.Context(), "a/2", []byte("12345")); err != nil {
			t.Fatal(err)
		}
		rc, err := objects.Open(t.Context(), "a/2", 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Fatal(err)
		}
		_ = rc.Close()
		for _, err := range objects.List(t.Context(), "a/", "") {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := objects.Delete(t.Context(), "a/1", "a/2"); err != nil {
			t.Fatal(err)
		}
		after := stats()
		got := multidb.RequestStats{
			Put: after.Put - before.Put, Get: after.Get - before.Get, List: after.List - before.List, Head: after.Head - before.Head,
			Delete: after.Delete - before.Delete, Errors: after.Errors, BytesOut: after.BytesOut - before.BytesOut, BytesIn: after.BytesIn - before.BytesIn,
		}
		got.Delete, got.BytesOut, got.BytesIn = min(got.Delete, 1), min(got.BytesOut, 5), min(got.BytesIn, 3) // S3 lists in bodies, too
		if want := (multidb.RequestStats{Put: 1, Get: 1, List: 1, Delete: 1, BytesOut: 5, BytesIn: 3}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestTheFileReplicaKeepsObjects(t *testing.T) {
	t.Parallel()
	multidbtest.TestReplicaObjects(t, func(t *testing.T) multidb.ReplicaFactory {
		r, err := multidb.NewFileReplica(t.TempDir(), "litestream/{{tenant}}")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}, multidbtest.ListedObjects(200)) // two fsyncs each
}

func TestTheMemoryReplicaKeepsObjects(t *testing.T) {
	multidbtest.TestReplicaObjects(t, func(*testing.T) multidb.ReplicaFactory { return multidbtest.NewReplica() },
		multidbtest.ListedObjects(2500))
}

func TestAURLReplicaKeepsNoObjects(t *testing.T) {
	r, err := multidb.NewURLReplica("file:///backup/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := any(r).(multidb.ReplicaObjects); ok {
		t.Error("it does; its clients do not create only, so it must not")
	}
}
