package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	lss3 "github.com/benbjohnson/litestream/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/multidb-go/multidb"
)

// s3Replica returns a replica in an S3 server in process, and its endpoint.
func s3Replica(t *testing.T, path string) (*multidb.S3Replica, string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	r, err := multidb.NewS3Replica(multidb.S3Config{
		Bucket: "backups", Path: path, Endpoint: server.URL, Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "topsecret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r, server.URL
}

func TestAnS3ConfigThatCannotWorkSaysWhatToWrite(t *testing.T) {
	for want, cfg := range map[string]multidb.S3Config{
		"Bucket is empty: write":       {Path: "{{path}}"},
		"Path is empty: write":         {Bucket: "b"},
		"Path: ":                       {Bucket: "b", Path: "{{a"},
		"Path: invalid argument":       {Bucket: "b", Path: "a\x01/{{path}}"},
		"need both AccessKeyID":        {Bucket: "b", Path: "{{path}}", SecretAccessKey: "topsecret"},
		"Concurrency is -1: write":     {Bucket: "b", Path: "{{path}}", Concurrency: -1},
		"MaxAttempts is -1: write":     {Bucket: "b", Path: "{{path}}", MaxAttempts: -1},
		"RequestTimeout is -1s":        {Bucket: "b", Path: "{{path}}", RequestTimeout: -time.Second},
		"PartSize is 1: write":         {Bucket: "b", Path: "{{path}}", PartSize: 1},
		"SSE is \"x\": write":          {Bucket: "b", Path: "{{path}}", SSE: "x"},
		"SSECustomerKey must be":       {Bucket: "b", Path: "{{path}}", SSECustomerKey: "topsecret"},
		"SSEKMSKeyID needs":            {Bucket: "b", Path: "{{path}}", SSE: "AES256", SSEKMSKeyID: "k"},
		"Anonymous excludes":           {Bucket: "b", Path: "{{path}}", Anonymous: true, SessionToken: "topsecret"},
		"Profile excludes":             {Bucket: "b", Path: "{{path}}", Profile: "p", AccessKeyID: "k", SecretAccessKey: "topsecret"},
		"Accelerate excludes":          {Bucket: "b", Path: "{{path}}", Accelerate: true, ForcePathStyle: true},
		"Endpoint is not a URL: write": {Bucket: "b", Path: "{{path}}", Endpoint: "ftp://x"},
	} {
		t.Run(want, func(t *testing.T) {
			r, err := multidb.NewS3Replica(cfg)
			if r != nil || !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
	t.Run("everything at once", func(t *testing.T) {
		_, err := multidb.NewS3Replica(multidb.S3Config{})
		if err == nil || !strings.Contains(err.Error(), "Bucket is empty") || !strings.Contains(err.Error(), "Path is empty") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAnS3ConfigPrintsNoSecret(t *testing.T) {
	cfg := multidb.S3Config{Bucket: "b", Path: "{{path}}", AccessKeyID: "topsecret", SecretAccessKey: "topsecret", SessionToken: "topsecret", SSECustomerKey: "topsecret"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, cfg); s != "s3://b/{{path}}" {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

func TestAnS3ReplicaExpandsItsPath(t *testing.T) {
	r, _ := s3Replica(t, "/litestream/{{project}}//{{database}}/")
	got, err := r.Prefix(acme)
	if err != nil || got != "s3://backups/litestream/acme/main" {
		t.Errorf("got %s, %v", got, err)
	}
	if v := r.Vars(); len(v) != 2 || v[0] != "project" || v[1] != "database" {
		t.Errorf("vars %v", v)
	}
	for _, f := range []func() error{
		func() error { _, err := r.Prefix(multidb.Database{Path: "/x.db"}); return err },
		func() error { _, err := r.ReplicaClient(multidb.Database{Path: "/x.db"}); return err },
	} {
		if err := f(); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("a database without the variables: %v", err)
		}
	}
}

func TestADatabaseWhoseNameNoListingCarriesIsRefusedBeforeItsFirstWrite(t *testing.T) {
	r, _ := s3Replica(t, "{{name}}")
	db := multidb.Database{Path: "/x.db", Vars: []multidb.Var{{Name: "name", Value: "a\uFFFEb"}}}
	if c, err := r.ReplicaClient(db); c != nil || !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "U+FFFE") {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := r.Prefix(db); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestTheS3ReplicaChecksWhereItWillWrite(t *testing.T) {
	var written []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut:
			written = append(written, r.URL.Path)
			w.Header().Set("ETag", `"1"`)
			if len(written) > 1 {
				w.WriteHeader(http.StatusPreconditionFailed)
			}
		case http.MethodGet:
			_, _ = w.Write([]byte("<ListBucketResult><Name>b</Name></ListBucketResult>"))
		}
	}))
	t.Cleanup(server.Close)
	for path, want := range map[string]string{
		"litestream/{{path}}":      "/b/litestream/.multidb-check-",
		"a/b-{{project}}/{{name}}": "/b/a/.multidb-check-",
		"{{path}}":                 "/b/.multidb-check-",
	} {
		for name, use := range map[string]func(*multidb.S3Replica) error{
			"check": func(r *multidb.S3Replica) error { return r.Check(t.Context()) },
			"first write": func(r *multidb.S3Replica) error {
				c, err := r.ReplicaClient(multidb.Database{Path: "/x.db", Vars: []multidb.Var{{Name: "path", Value: "x"}, {Name: "project", Value: "p"}}})
				if err != nil {
					return err
				}
				// The server refuses all but the first write, the file's too.
				if _, err = c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, time.Now()))); !errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("want fs.ErrExist, got %w", err)
				}
				return nil
			},
		} {
			written = nil
			r, err := multidb.NewS3Replica(multidb.S3Config{Bucket: "b", Path: path, Endpoint: server.URL, Anonymous: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := use(r); err != nil {
				t.Error(err)
			}
			r.CloseIdleConnections()
			if len(written) < 2 || !strings.HasPrefix(written[0], want) || written[1] != written[0] {
				t.Errorf("%s, %s: wrote %v, want %s… twice", path, name, written, want)
			}
		}
	}
}

func TestTheS3ReplicaCountsRequests(t *testing.T) {
	r, _ := s3Replica(t, "{{project}}/{{database}}")
	c := replicaClient(t, r, acme)
	if n := r.RequestStats().Total(); n != 0 {
		t.Errorf("%d requests before anything was asked for", n)
	}
	data := ltxBytes(t, 1, time.Now())
	if _, err := c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	// The first write of a process tries out whether the store creates only.
	first := r.RequestStats()
	if first.Put != 3 || first.Delete != 1 || first.Total() != 4 || first.Errors != 0 || first.BytesOut != int64(len(data)) {
		t.Errorf("the first write: %+v", first)
	}
	if _, err := c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(data)); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v", err)
	}
	s := r.RequestStats()
	if s.Put != 4 || s.Total() != 5 || s.Errors != 0 || s.BytesOut != 2*int64(len(data)) {
		t.Errorf("%+v", s)
	}
}

func TestStockLitestreamRestoresWhatTheS3ReplicaWrote(t *testing.T) {
	r, endpoint := s3Replica(t, "litestream/{{project}}/{{database}}/")
	c := replicaClient(t, r, acme)
	data := ltxBytes(t, 1, time.Now())
	if _, err := c.WriteLTXFile(t.Context(), litestream.SnapshotLevel, 1, 1, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	stock := lss3.NewReplicaClient()
	stock.Bucket, stock.Path, stock.Region, stock.Endpoint, stock.ForcePathStyle = "backups", "litestream/acme/main", "us-east-1", endpoint, true
	stock.AccessKeyID, stock.SecretAccessKey = "id", "topsecret"
	unsetenv(t, "AWS_CA_BUNDLE") // which litestream's own client cannot be made with
	out := filepath.Join(t.TempDir(), "out.db")
	if err := litestream.NewReplicaWithClient(nil, stock).Restore(t.Context(), litestream.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, make([]byte, 512)) {
		t.Errorf("restored %d bytes, %v", len(b), err)
	}
}

func TestAnS3RestoreClientIsAnExtraPower(t *testing.T) {
	r, _ := s3Replica(t, "{{project}}/{{database}}")
	c := replicaClient(t, r, acme)
	if _, err := c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, time.Now()))); err != nil {
		t.Fatal(err)
	}
	p, ok := c.(interface {
		RestoreClient(ctx context.Context, useMetadata bool) (litestream.ReplicaClient, error)
	})
	if !ok {
		t.Fatal("no RestoreClient")
	}
	before := r.RequestStats()
	view, err := p.RestoreClient(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if err := litestream.NewReplicaWithClient(nil, view).Restore(t.Context(), litestream.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	if s := r.RequestStats(); s.List-before.List != 1 || s.Get-before.Get != 1 || s.Total()-before.Total() != 2 {
		t.Errorf("%+v before, %+v after", before, s)
	}
}

func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // restores it
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
