package torture

import (
	"cmp"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
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
	log bool   // it has a fleet log

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
	return multidb.NewS3Replica(p.s3())
}

func (p place) s3() multidb.S3Config {
	access := cmp.Or(p.access, "key")
	return multidb.S3Config{Bucket: cmp.Or(p.bucket, bucket), Path: "t/{{database}}/", Endpoint: p.url,
		Region: "us-east-1", AccessKeyID: access, SecretAccessKey: secretOf(access), ForcePathStyle: true,
		RequestTimeout: cmp.Or(p.timeout, 3*time.Second)}
}

// logDir is the directory of the fleet log.
const logDir = "fleet"

// reader is a factory that reads what the prefixes and the fleet log have now.
func (p place) reader(t testing.TB) multidb.ReplicaFactory {
	t.Helper()
	f := p.shared(t)
	if !p.log {
		return f
	}
	r, err := multidb.ReadFleetLog(f, logDir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readers are the factories of tests that look at a place again and again: each of its own
// would keep its connections for a while, and there are thousands.
var readers sync.Map // of reading to multidb.ReplicaFactory

type reading struct {
	test string
	at   place
}

func (p place) shared(t testing.TB) multidb.ReplicaFactory {
	t.Helper()
	key := reading{t.Name(), p}
	if f, ok := readers.Load(key); ok {
		return f.(multidb.ReplicaFactory)
	}
	f := p.factory(t)
	if other, there := readers.LoadOrStore(key, f); there {
		return other.(multidb.ReplicaFactory)
	}
	t.Cleanup(func() {
		readers.Delete(key)
		if idle, ok := f.(interface{ CloseIdleConnections() }); ok {
			idle.CloseIdleConnections()
		}
	})
	return f
}

// logged are the options of a Manager over the place, by which all that concerns a fleet
// log happens often.
func (p place) logged(opts ...multidb.Option) []multidb.Option {
	if !p.log {
		return opts
	}
	return append(opts, multidb.WithFleetLog(multidb.FleetLogConfig{Path: logDir,
		UnpackInterval: 250 * time.Millisecond, UnpackSize: 200 << 10, LogRetention: 2 * time.Second}))
}

// withAndWithoutLog runs a test in both forms; the short one under the race detector, which
// takes minutes each, with a log alone: most of what it runs is the same.
func withAndWithoutLog(t *testing.T, fn func(t *testing.T, log bool)) {
	if raceFactor == 1 || !testing.Short() {
		t.Run("direct", func(t *testing.T) { fn(t, false) })
	}
	t.Run("log", func(t *testing.T) { fn(t, true) })
}

// database is one that a prefix is of.
func (p place) database(name string) multidb.Database {
	return multidb.Database{ID: multidb.ID(name), Path: "/" + name + ".db",
		Vars: []multidb.Var{{Name: "database", Value: name}}}
}

// client is a view of one database's prefix and of the fleet log as it is now, apart from
// any Manager's.
func (p place) client(t testing.TB, name string) litestream.ReplicaClient {
	t.Helper()
	f := p.reader(t)
	c, err := f.ReplicaClient(p.database(name))
	if err != nil {
		t.Fatal(err)
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
