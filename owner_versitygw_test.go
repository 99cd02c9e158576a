//go:build versitygw

// The rows of owner_test.go over a real S3 server, which `make interop` starts:
//
//	MULTIDB_TEST_S3_ENDPOINT=http://127.0.0.1:7070 go test -tags versitygw -run '(WhoMayWrite|ThereAndBackOver)/^versitygw$' .
package multidb_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/multidb-go/multidb"
)

func init() {
	ownershipStores["versitygw"] = func(t *testing.T) multidb.ReplicaFactory {
		t.Helper()
		endpoint := os.Getenv("MULTIDB_TEST_S3_ENDPOINT")
		if endpoint == "" {
			t.Skip("MULTIDB_TEST_S3_ENDPOINT is not set: make interop sets it")
		}
		r, err := multidb.NewS3Replica(multidb.S3Config{
			Bucket: "backups", Path: "own-" + strconv.FormatUint(rand.Uint64(), 36) + "/{{tenant}}", Endpoint: endpoint,
			Region: "us-east-1", AccessKeyID: "multidb", SecretAccessKey: "multidb-secret",
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.CloseIdleConnections)
		return r
	}
}
