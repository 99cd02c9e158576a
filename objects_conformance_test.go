package multidb_test

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheS3ReplicaKeepsObjects(t *testing.T) {
	multidbtest.TestReplicaObjects(t, func(t *testing.T) multidb.ReplicaFactory {
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
	})
}

func TestTheFileReplicaKeepsObjects(t *testing.T) {
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
