package multidb_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheGlobDiscovererConforms(t *testing.T) {
	multidbtest.TestDiscoverer(t, func(_ *testing.T, root string) multidb.Discoverer {
		return multidb.Glob(root + "/{{project}}/databases/{{database}}.db")
	})
}

func TestTheStaticDiscovererConforms(t *testing.T) {
	multidbtest.TestDiscoverer(t, func(_ *testing.T, root string) multidb.Discoverer {
		var dbs []multidb.Database
		for p := range 3 {
			for d := range 4 {
				id := fmt.Sprintf("project%d/db%d", p, d)
				dbs = append(dbs, multidb.Database{
					ID:   multidb.ID(id),
					Path: filepath.Join(root, fmt.Sprintf("project%d/databases/db%d.db", p, d)),
				})
			}
		}
		return multidb.Static(dbs...)
	})
}
