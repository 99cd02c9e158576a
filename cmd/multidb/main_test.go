package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/multidb-go/multidb"
)

// asCommand makes the test binary be the command: the tests run it as a process.
const asCommand = "MULTIDB_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// patience is how long anything in these tests may take.
const patience = time.Minute

// process is the command, running.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	lines          *lineWriter // of stderr
}

// invoke prepares a run of the command, with no AWS configuration but env.
func invoke(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	p := &process{t: t, cmd: exec.CommandContext(ctx, os.Args[0], args...)}
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "AWS_CA_BUNDLE=") || strings.HasPrefix(kv, "MULTIDB_")
	})
	p.cmd.Env = append(p.cmd.Env, asCommand+"=1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_EC2_METADATA_DISABLED=true")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Dir = t.TempDir()
	p.lines = &lineWriter{to: &p.stderr, more: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p.lines
	return p
}

func (p *process) start() *process {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// want fails the test unless the exit code is as wanted, and standard error has
// every text.
func (p *process) want(code int, texts ...string) *process {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Fatalf("%q: exit code %d, want %d\nstdout: %s\nstderr: %s", p.cmd.Args[1:], got, code, &p.stdout, &p.stderr)
	}
	for _, s := range texts {
		if !strings.Contains(p.stderr.String(), s) {
			p.t.Errorf("%q: standard error lacks %q:\n%s", p.cmd.Args[1:], s, &p.stderr)
		}
	}
	return p
}

// records are the JSON lines of standard output.
func (p *process) records() []map[string]any {
	p.t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(&p.stdout); ; {
		var m map[string]any
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			p.t.Fatalf("%v\n%s", err, &p.stdout)
		}
		all = append(all, m)
	}
}

// lineWriter keeps what is written and lets a test wait for a text.
type lineWriter struct {
	mu   sync.Mutex
	to   *bytes.Buffer
	more chan struct{}
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.to.Write(b)
}

func (p *process) await(text string) {
	p.t.Helper()
	p.awaitTimes(text, 1)
}

// awaitTimes waits until the text was said that often.
func (p *process) awaitTimes(text string, n int) {
	p.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		p.lines.mu.Lock()
		found, more := strings.Count(p.stderr.String(), text) >= n, p.lines.more
		said := p.stderr.String()
		p.lines.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-late.C:
			p.t.Fatalf("never said %q:\n%s", text, said)
		}
	}
}

// fleet is a tree of databases that are in a replica.
type fleet struct {
	root    string
	ids     []multidb.ID
	pattern string
}

func (f *fleet) path(id multidb.ID) string {
	project, database, _ := strings.Cut(string(id), "/")
	return filepath.Join(f.root, project, "databases", database+".db")
}

const template = "litestream/{{project}}/{{database}}"

// newFleet makes databases, each with rows of its own.
func newFleet(t *testing.T, projects, databases int) *fleet {
	t.Helper()
	f := &fleet{root: t.TempDir()}
	f.pattern = filepath.Join(f.root, "{{project}}", "databases", "{{database}}.db")
	for i := range projects {
		for j := range databases {
			f.add(t, multidb.ID(fmt.Sprintf("project%d/db%d", i, j)))
		}
	}
	return f
}

func (f *fleet) add(t *testing.T, id multidb.ID) {
	t.Helper()
	f.ids = append(f.ids, id)
	path := f.path(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, `PRAGMA journal_mode=wal; CREATE TABLE t (k INTEGER PRIMARY KEY, v);
		INSERT INTO t (v) VALUES ('`+strings.ReplaceAll(string(id), "'", "''")+`')`)
}

func write(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(errors.Join(err, db.Close()))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// ship replicates everything that is there now.
func (f *fleet) ship(t *testing.T, replica multidb.ReplicaFactory) {
	t.Helper()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(f.pattern)), multidb.WithReplica(replica),
		multidb.WithStateDir(filepath.Join(f.root, ".state")))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func rowsOf(t *testing.T, path string) []string {
	t.Helper()
	mode := "immutable=1" // reading leaves nothing beside it
	if _, err := os.Stat(path + "-wal"); err == nil {
		mode = "mode=ro"
	}
	db, err := sql.Open("sqlite", "file:"+path+"?"+mode)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []string
	rs, err := db.Query("SELECT k || ' ' || v FROM t ORDER BY k")
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer rs.Close()
	for rs.Next() {
		var s string
		if err := rs.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rs.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// equals fails the test unless every database is below dir as its source is, and
// nothing else.
func (f *fleet) equals(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != len(f.ids) {
		t.Errorf("%d files, want %d (%v)", files, len(f.ids), err)
	}
	for _, id := range f.ids {
		if got, want := rowsOf(t, filepath.Join(dir, string(id)+".db")), rowsOf(t, f.path(id)); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: restored %q, want %q", id, got, want)
		}
	}
}

// store is an S3 server with the bucket "fleet"; hold, if set, is asked before
// each request.
type store struct {
	url string
	env []string

	mu   sync.Mutex
	hold func(w http.ResponseWriter, r *http.Request) bool // false: answered
}

func newStore(t *testing.T) *store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("fleet"); err != nil {
		t.Fatal(err)
	}
	s := &store{}
	fake := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		hold := s.hold
		s.mu.Unlock()
		if hold == nil || hold(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	s.env = []string{"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_S3=" + s.url}
	return s
}

func (s *store) setHold(hold func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

func (s *store) replica(t *testing.T) *multidb.S3Replica {
	t.Helper()
	r, err := multidb.NewS3Replica(multidb.S3Config{Bucket: "fleet", Path: template, Endpoint: s.url,
		Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

// newDir returns the directory of a file replica that has the fleet.
func newDir(t *testing.T, f *fleet) string {
	t.Helper()
	dir := t.TempDir()
	f.shipTo(t, dir)
	return dir
}

// shipTo is ship, to a directory.
func (f *fleet) shipTo(t *testing.T, dir string) {
	t.Helper()
	r, err := multidb.NewFileReplica(dir, template)
	if err != nil {
		t.Fatal(err)
	}
	f.ship(t, r)
}

// configure writes a configuration of the fleet with a file replica.
func (f *fleet) configure(t *testing.T, replica string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "multidb.yaml")
	text := fmt.Sprintf(`multi-db:
  patterns: [%q]
  state-dir: %q
  replica-template:
    type: file
    dir: %q
    path: %q
    sync-interval: 20ms
`, f.pattern, f.stateDir(), replica, template)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *fleet) stateDir() string { return filepath.Join(f.root, ".run") }

// firstLine reads one line of a pipe and closes it.
func firstLine(t *testing.T, r io.ReadCloser) string {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return line
}
