package multidb_test

import (
	"net/url"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheMemoryReplicaConforms(t *testing.T) {
	t.Run("by ID", func(t *testing.T) {
		multidbtest.TestReplicaFactory(t, func(*testing.T) multidb.ReplicaFactory {
			return multidbtest.NewReplica()
		})
	})
	t.Run("by template", func(t *testing.T) {
		multidbtest.TestReplicaFactory(t, func(*testing.T) multidb.ReplicaFactory {
			return multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{project}}/{{database}}/"))
		})
	})
}

func TestTheFileReplicaConforms(t *testing.T) {
	t.Parallel()
	multidbtest.TestReplicaFactory(t, func(t *testing.T) multidb.ReplicaFactory {
		r, err := multidb.NewFileReplica(t.TempDir(), "litestream/{{project}}/{{database}}/")
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}

func TestAURLReplicaOfFilesConforms(t *testing.T) {
	multidbtest.TestReplicaFactory(t, func(t *testing.T) multidb.ReplicaFactory {
		u := url.URL{Scheme: "file", Path: t.TempDir()}
		r, err := multidb.NewURLReplica(u.String() + "/{{project}}/{{database}}")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}, multidbtest.CreateOnly(false))
}
