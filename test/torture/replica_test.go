package torture

import (
	"cmp"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/multidb-go/multidb"
)

const bucket = "backups"

// place is where a test keeps its replicas: a directory, or a bucket that
// outlives the Managers.
type place struct {
	dir string // of a file replica
	url string // of an S3 server

	bucket  string        // default: bucket
	access  string        // its secret is secretOf's
	timeout time.Duration // of a request without progress; default 3 s
}

func (p place) factory(t testing.TB) multidb.ReplicaFactory {
	t.Helper()
	f, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (p place) open() (multidb.ReplicaFactory, error) {
	if p.url == "" {
		return multidb.NewFileReplica(p.dir, "{{database}}")
	}
	access := cmp.Or(p.access, "key")
	return multidb.NewS3Replica(multidb.S3Config{Bucket: cmp.Or(p.bucket, bucket), Path: "t/{{database}}/", Endpoint: p.url,
		Region: "us-east-1", AccessKeyID: access, SecretAccessKey: secretOf(access), ForcePathStyle: true,
		RequestTimeout: cmp.Or(p.timeout, 3*time.Second)})
}

// database is one that a prefix is of.
func (p place) database(name string) multidb.Database {
	return multidb.Database{ID: multidb.ID(name), Path: "/" + name + ".db",
		Vars: []multidb.Var{{Name: "database", Value: name}}}
}

// client is a view of one database's prefix, apart from any Manager's.
func (p place) client(t testing.TB, name string) litestream.ReplicaClient {
	t.Helper()
	f := p.factory(t)
	c, err := f.ReplicaClient(p.database(name))
	if err != nil {
		t.Fatal(err)
	}
	if idle, ok := f.(interface{ CloseIdleConnections() }); ok {
		t.Cleanup(idle.CloseIdleConnections)
	}
	return c
}

func filePlace(t testing.TB) place { return place{dir: filepath.Join(t.TempDir(), "replica")} }

// fakeS3 is an S3 server in this process, with a fault before it.
type fakeS3 struct {
	place
	store *s3mem.Backend
	fault atomic.Pointer[faultFunc]
}

// faultFunc answers a request in place of the server, or hands it on.
type faultFunc func(w http.ResponseWriter, r *http.Request, next http.Handler)

func newFakeS3(t testing.TB) *fakeS3 {
	t.Helper()
	f := &fakeS3{store: s3mem.New()}
	if err := f.store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(f.store).Server()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil {
			(*fault)(w, r, fake)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients die in mid-request
	srv.Start()
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// isolateAWS keeps the machine's own AWS configuration out of a test.
func isolateAWS() {
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_ = os.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}
