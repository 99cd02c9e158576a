package multidb_test

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheS3ReplicaConforms(t *testing.T) {
	t.Parallel()
	multidbtest.TestReplicaFactory(t, func(t *testing.T) multidb.ReplicaFactory {
		backend := s3mem.New()
		if err := backend.CreateBucket("backups"); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(gofakes3.New(backend).Server())
		t.Cleanup(server.Close)
		r, err := multidb.NewS3Replica(multidb.S3Config{
			Bucket:          "backups",
			Path:            "litestream/{{project}}/{{database}}/",
			Region:          "us-east-1",
			Endpoint:        server.URL,
			AccessKeyID:     "id",
			SecretAccessKey: "secret",
			ForcePathStyle:  true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.CloseIdleConnections)
		return r
	})
}
