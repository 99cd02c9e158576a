//go:build versitygw

package s3_test

import (
	"os"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestVersitygwKeepsObjects(t *testing.T) {
	endpoint := os.Getenv("MULTIDB_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Skip("MULTIDB_TEST_S3_ENDPOINT is not set")
	}
	multidbtest.TestReplicaObjects(t, func(t *testing.T) multidb.ReplicaFactory {
		r, err := multidb.NewS3Replica(multidb.S3Config{
			Bucket: "backups", Path: "objects/{{tenant}}", Endpoint: endpoint,
			Region: "us-east-1", AccessKeyID: "multidb", SecretAccessKey: "multidb-secret",
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.CloseIdleConnections)
		return r
	})
}
