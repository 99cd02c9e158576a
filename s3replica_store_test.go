package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// oddS3 is a replica in an S3 server before which fault stands.
func oddS3(t *testing.T, change func(*multidb.S3Config), fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) *multidb.S3Replica {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	next := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fault(w, r, next) }))
	t.Cleanup(server.Close)
	cfg := multidb.S3Config{Bucket: "backups", Path: "p/{{project}}/{{database}}", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "topsecret"}
	change(&cfg)
	r, err := multidb.NewS3Replica(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

// deletions counts what the retention lets go.
type deletions struct {
	multidb.ReplicaFactory
	n *atomic.Int64
}

func (d deletions) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	c, err := d.ReplicaFactory.ReplicaClient(db)
	return deletingClient{c, d.n}, err
}

type deletingClient struct {
	litestream.ReplicaClient
	n *atomic.Int64
}

func (c deletingClient) DeleteLTXFiles(ctx context.Context, files []*ltx.FileInfo) error {
	c.n.Add(int64(len(files)))
	return c.ReplicaClient.DeleteLTXFiles(ctx, files)
}

func TestWithNoDeleteRetentionIsWellWithoutTheRightToDelete(t *testing.T) {
	r := oddS3(t, func(c *multidb.S3Config) { c.NoDelete = true }, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete || r.URL.Query().Has("delete") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := r.RequestStats()
	root := newTree(t, 1, 1)
	var deleted atomic.Int64
	m, err := multidb.New(multidb.WithReplica(deletions{r, &deleted}), multidb.WithDiscoverer(multidb.Glob(pattern(root))),
		multidb.WithSyncInterval(5*time.Millisecond), multidb.WithColdSyncInterval(5*time.Millisecond),
		multidb.WithRetention(5*time.Millisecond), multidb.WithL0Retention(5*time.Millisecond), multidb.WithRetentionInterval(5*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const id = "project0/db0"
	for i := 0; deleted.Load() == 0; i++ {
		err := m.Do(t.Context(), id, func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE IF NOT EXISTS log(v); INSERT INTO log VALUES(" + strconv.Itoa(i) + ")")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Sync(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if ok, worst := m.Healthy(time.Minute); !ok {
		t.Errorf("not well: %v", worst)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s := r.RequestStats(); s.Delete != 0 || s.Errors != before.Errors {
		t.Errorf("%+v", s)
	}
}

func TestAStoreWithoutConditionalWritesNeedsAWord(t *testing.T) {
	refuses := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = io.WriteString(w, "<Error><Code>NotImplemented</Code><Message>a header is not implemented</Message></Error>")
			return
		}
		next.ServeHTTP(w, r)
	}
	ignores := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("If-None-Match")
		next.ServeHTTP(w, r)
	}
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){"it refuses them": refuses, "it ignores them": ignores} {
		for _, allowed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var want error
				if !allowed {
					want = multidb.ErrNoConditionalWrites
				}
				r := oddS3(t, func(c *multidb.S3Config) { c.AllowUnsafeWrites = allowed }, fault)
				m, err := multidb.New(multidb.WithReplica(r), multidb.WithDiscoverer(multidb.Glob(pattern(newTree(t, 1, 1)))))
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := m.Sync(t.Context(), "project0/db0"); !errors.Is(err, want) {
					t.Errorf("sync: want %v, got %v", want, err)
				}
				if err := r.Check(t.Context()); !errors.Is(err, want) {
					t.Errorf("check: want %v, got %v", want, err)
				}
				if err := m.Close(t.Context()); !errors.Is(err, want) {
					t.Errorf("close: want %v, got %v", want, err)
				}
			})
		}
	}
}

func TestAStartMakesNoRequestToFindOutWhatTheStoreDoes(t *testing.T) {
	r := oddS3(t, func(*multidb.S3Config) {}, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
	m, err := multidb.New(multidb.WithReplica(r), multidb.WithDiscoverer(multidb.Glob(pattern(t.TempDir()))))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Start(t.Context()), m.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n := r.RequestStats().Total(); n != 0 {
		t.Errorf("%d requests", n)
	}
}
