package multidb_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func tenantS3(t *testing.T, path string, wrap func(http.Handler) http.Handler) *multidb.S3Replica {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = gofakes3.New(backend).Server()
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r, err := multidb.NewS3Replica(multidb.S3Config{
		Bucket: "backups", Path: path, Region: "us-east-1", Endpoint: server.URL,
		AccessKeyID: "id", SecretAccessKey: "secret", MaxAttempts: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

func tenantDir(t *testing.T, path string) *multidb.FileReplica {
	t.Helper()
	r, err := multidb.NewFileReplica(t.TempDir(), path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryReplicaListsItsTenants(t *testing.T) {
	for _, path := range []string{"a/{{project}}/b/{{database}}/", "x-{{project}}-{{database}}.d", "a/{{path}}"} {
		t.Run(path, func(t *testing.T) {
			t.Run("s3", func(t *testing.T) {
				multidbtest.TestTenantLister(t, func(t *testing.T) multidb.ReplicaFactory { return tenantS3(t, path, nil) })
			})
			t.Run("file", func(t *testing.T) {
				multidbtest.TestTenantLister(t, func(t *testing.T) multidb.ReplicaFactory { return tenantDir(t, path) })
			})
			t.Run("memory", func(t *testing.T) {
				multidbtest.TestTenantLister(t, func(*testing.T) multidb.ReplicaFactory {
					return multidbtest.NewReplica(multidbtest.WithPathTemplate(path))
				})
			})
		})
	}
	t.Run("memory by ID", func(t *testing.T) {
		multidbtest.TestTenantLister(t, func(*testing.T) multidb.ReplicaFactory { return multidbtest.NewReplica() })
	})
}

func TestATemplateReadsBackWhatItExpanded(t *testing.T) {
	for _, template := range []string{"a/{{project}}/{{database}}", "{{project}}-{{database}}", "{{path}}/{{project}}/x", "p/{{project}}/{{project}}"} {
		tmpl, err := multidb.ParseTemplate(template)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"plain", "50%", "%25", "é", "bad\xff", "a.b c", "%zz"} {
			db := multidb.Database{Path: "/data/" + value + ".db", RelPath: "sub/" + value,
				Vars: []multidb.Var{{Name: "project", Value: value}, {Name: "database", Value: "d"}}}
			path, err := tmpl.Expand(db)
			if err != nil {
				t.Fatal(err)
			}
			values, ok := tmpl.Match(path)
			if !ok {
				t.Errorf("%s does not match %q", template, path)
				continue
			}
			for _, v := range values {
				if want, _ := db.Var(v.Name); v.Value != want {
					t.Errorf("%s: %q: %s is %q, want %q", template, path, v.Name, v.Value, want)
				}
			}
		}
		for _, path := range []string{"", "other", "a//d", "a/../d", "p/x/y", "a/%41/d"} {
			if values, ok := tmpl.Match(path); ok {
				t.Errorf("%s matches %q: %v", template, path, values)
			}
		}
	}
}

func TestTheListingOfAFixedTemplateCostsOneGetATenant(t *testing.T) {
	r := tenantS3(t, "fleet/{{project}}/", nil)
	const n = 50
	for i := range n {
		c, err := r.ReplicaClient(multidb.Database{Vars: []multidb.Var{{Name: "project", Value: "p" + fmt.Sprint(i)}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.(multidb.MetadataStore).WriteMetadata(t.Context(), fmt.Appendf(nil, `{"format":1,"id":%q}`, fmt.Sprint("id ", i))); err != nil {
			t.Fatal(err)
		}
	}
	before := r.RequestStats()
	found := 0
	for _, err := range r.Tenants(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	after := r.RequestStats()
	if list, get := after.List-before.List, after.Get-before.Get; list != 1 || get != int64(found) || found != n {
		t.Errorf("%d tenants cost %d LIST and %d GET", found, list, get)
	}
}

func TestATenantThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	r := tenantDir(t, "{{project}}")
	for name, metadata := range map[string]string{
		"good": `{"format":1,"id":"good"}`, "torn": `{"format":1,"id":"to`, "newer": `{"format":99,"id":"newer"}`, "empty": "",
	} {
		c, err := r.ReplicaClient(multidb.Database{Vars: []multidb.Var{{Name: "project", Value: name}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte(metadata)); err != nil {
			t.Fatal(err)
		}
	}
	good, bad := "", map[multidb.ID]bool{}
	for db, err := range r.Tenants(t.Context()) {
		var e *multidb.Error
		switch {
		case err == nil:
			good += string(db.ID)
		case errors.As(err, &e):
			bad[e.ID] = true
		default:
			t.Fatal(err)
		}
	}
	if good != "good" || len(bad) != 3 || !bad["torn"] || !bad["newer"] || !bad["empty"] {
		t.Errorf("listed %q, errors about %v", good, bad)
	}
}

func TestAReplicaDirectoryThatIsNotThereIsNoEmptyReplica(t *testing.T) {
	r, err := multidb.NewFileReplica(filepath.Join(t.TempDir(), "missing"), "{{project}}")
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range r.Tenants(t.Context()) {
		last = err
	}
	if !errors.Is(last, os.ErrNotExist) {
		t.Errorf("error %v", last)
	}
}

func TestACopiedPrefixIsFoundWhereItIs(t *testing.T) {
	tmpl, err := multidb.ParseTemplate("new/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	db, err := multidb.TenantAt(tmpl, "new/b", []byte(`{"format":1,"id":"p/a","vars":{"database":"a","project":"p"}}`))
	if err != nil || db.ID != "p/a" {
		t.Fatal(db, err)
	}
	if got, err := tmpl.Expand(db); got != "new/b" {
		t.Errorf("it would be restored from %q, %v", got, err)
	}
}

func TestARestoreNeedsNoManager(t *testing.T) {
	replica := tenantDir(t, "{{project}}/{{database}}")
	f := start(t, newTree(t, 2, 2), multidb.WithReplica(replica))
	f.insert("project1/db0", "offline")
	f.sync("project1/db0")
	listed := 0
	for db, err := range replica.Tenants(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
		if db.ID != "project1/db0" {
			continue
		}
		tmp, out := t.TempDir(), filepath.Join(t.TempDir(), "out.db")
		opt := multidb.RestoreOptions{OutputPath: out, TempDir: tmp}
		if err := multidb.RestoreFrom(t.Context(), replica, db, opt); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		want := f.restored("project1/db0", multidb.RestoreOptions{})
		if got := rows(t, out); !slices.Equal(got, want) {
			t.Errorf("restored %v, the Manager %v", got, want)
		}
		if err := multidb.RestoreFrom(t.Context(), replica, db, opt); !errors.Is(err, multidb.ErrExists) {
			t.Errorf("over what exists: %v", err)
		}
	}
	if listed == 0 {
		t.Error("nothing listed")
	}
	err := multidb.RestoreFrom(t.Context(), replica, multidb.Database{ID: "x/y", Vars: []multidb.Var{{Name: "project", Value: "x"}, {Name: "database", Value: "y"}}},
		multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "no.db")})
	if !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestWhatIsNoDatabaseIsNotListed(t *testing.T) {
	for _, path := range []string{"{{project}}", "{{path}}"} {
		dir := t.TempDir()
		r, err := multidb.NewFileReplica(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"logs/today/readme", "empty/ltx.txt", "0/0000/notes", "file"} {
			name = filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for db, err := range r.Tenants(t.Context()) {
			t.Errorf("%s: listed %+v, %v", path, db, err)
		}
	}
}
