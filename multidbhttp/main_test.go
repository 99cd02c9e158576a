package multidbhttp

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a Server of a Manager, at a listener of this machine.
type site struct {
	t       *testing.T
	m       *multidb.Manager
	replica *multidbtest.Replica
	root    string
	server  *Server
	url     string
	client  *http.Client
	events  *Events
	log     *bytes.Buffer // to be read when nothing is in progress
}

// newManager makes a Manager of the databases that are below root, and starts it.
func newManager(t *testing.T, replica multidb.ReplicaFactory, root string, opts ...multidb.Option) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(append([]multidb.Option{multidb.WithReplica(replica), multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "*", "*.db"))),
		multidb.WithStateDir(filepath.Join(t.TempDir(), "state")), multidb.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// newSite serves a Manager with the databases ids, each with a row at the replica. opt may be nil.
func newSite(t *testing.T, ids []multidb.ID, opt func(*Options)) *site {
	t.Helper()
	s := &site{t: t, replica: multidbtest.NewReplica(), root: t.TempDir(), events: &Events{}, log: &bytes.Buffer{}}
	s.m = newManager(t, s.replica, s.root, multidb.WithObserver(s.events.Observe))
	for _, id := range ids {
		s.write(id)
		if _, err := s.m.Sync(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Events: s.events, Logger: slog.New(slog.NewTextHandler(s.log, nil)), MaxLag: 1 << 50}
	if opt != nil {
		opt(&o)
	}
	server, err := Handler(s.m, o)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	s.url = listener.URL
	s.client = listener.Client()
	s.client.Jar, _ = cookiejar.New(nil) // never fails
	return s
}

func (s *site) write(id multidb.ID) {
	s.t.Helper()
	err := s.m.Do(s.t.Context(), id, func(db *sql.DB) error {
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS t(v); INSERT INTO t VALUES('row')")
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	at     string // the path and query after redirections
}

func (s *site) send(r *http.Request) answer {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b), resp.Request.URL.RequestURI()}
}

func (s *site) request(method, path, body string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) get(path string) answer { s.t.Helper(); return s.send(s.request("GET", path, "")) }

// read is get, of JSON.
func read[T any](s *site, path string, status int) (v T) {
	s.t.Helper()
	a := s.get(path)
	if a.status != status {
		s.t.Fatalf("GET %s: %d, want %d: %s", path, a.status, status, a.body)
	}
	if kind := a.header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		s.t.Errorf("GET %s: Content-Type is %q", path, kind)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		s.t.Fatalf("GET %s: %v: %s", path, err, a.body)
	}
	return v
}

// post sends JSON.
func (s *site) post(path string, v any) answer {
	s.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	r := s.request("POST", path, string(b))
	r.Header.Set("Content-Type", "application/json")
	return s.send(r)
}

// form sends a form, as a browser does from a page of the origin; empty: of the site itself.
func (s *site) form(path, origin string, fields map[string]string) answer {
	s.t.Helper()
	v := make([]string, 0, len(fields))
	for name, value := range fields {
		v = append(v, escape(name)+"="+escape(value))
	}
	r := s.request("POST", path, strings.Join(v, "&"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if origin == "" {
		origin = s.url
	}
	r.Header.Set("Origin", origin)
	return s.send(r)
}

// rowsIn counts the rows of a restored file.
func rowsIn(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1") // reading leaves nothing beside it
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return n
}

// ask asks a Server without a listener.
func ask(t testing.TB, s *Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}
