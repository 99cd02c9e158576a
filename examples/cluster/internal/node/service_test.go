package node

import (
	"net/http/httptest"
	"testing"

	"github.com/multidb-go/multidb"
)

func TestRequestsForATenantAreToldFromOthers(t *testing.T) {
	for _, c := range []struct {
		path string
		id   multidb.ID
		ok   bool
	}{
		{"/tenants/t001/notes", "t001", true}, {"/tenants/t001", "t001", true}, {"/node", "", true},
		{"/tenants/", "", false}, {"/tenants/..%2fx/notes", "", false}, {"/tenants/A/notes", "", false},
	} {
		id, err := TenantOf(httptest.NewRequest("GET", c.path, nil))
		if id != c.id || (err == nil) != c.ok {
			t.Errorf("%s: %q, %v", c.path, id, err)
		}
	}
}
