package docs_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/markdown"
)

const bucket = "multidb-backups" // of the policies

// policy is an IAM policy, as far as the documents use it.
type policy struct {
	Version   string
	Statement []struct {
		Sid, Effect      string
		Action, Resource oneOrMore
	}
}

type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// policyUnder is the policy in the document under a heading.
func policyUnder(t *testing.T, heading string) *policy {
	t.Helper()
	all, err := markdown.Blocks(markdown.Sections(read(t, "OPERATIONS.md"))[heading])
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.Lang == "json" && strings.Contains(b.Text, "Statement") {
			p := &policy{}
			dec := json.NewDecoder(strings.NewReader(b.Text))
			dec.DisallowUnknownFields() // a condition, for one, which allows would overlook
			if err := dec.Decode(p); err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatalf("no policy under %q", heading)
	return nil
}

// allows reports whether a policy without conditions and denials allows a request.
func (p *policy) allows(action, resource string) bool {
	for _, s := range p.Statement {
		if s.Effect == "Allow" && slices.Contains(s.Action, action) &&
			slices.ContainsFunc(s.Resource, func(pattern string) bool { return matches(pattern, resource) }) {
			return true
		}
	}
	return false
}

func matches(pattern, resource string) bool {
	prefix, rest := strings.CutSuffix(pattern, "*") // it goes beyond slashes
	return pattern == resource || rest && strings.HasPrefix(resource, prefix)
}

func (p *policy) actions() (all []string) {
	for _, s := range p.Statement {
		all = append(all, s.Action...)
	}
	return all
}

// actionOf is the action that IAM asks for, by the reference of S3's operations,
// and on what. It is empty for what multidb is not known to do.
func actionOf(r *http.Request) (action string, resources []string) {
	q := r.URL.Query()
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if name != bucket {
		return "", nil
	}
	arn := "arn:aws:s3:::" + bucket
	if key == "" {
		switch {
		case r.Method == http.MethodGet && q.Get("list-type") == "2":
			return "s3:ListBucket", []string{arn}
		case r.Method == http.MethodPost && q.Has("delete"):
			return "s3:DeleteObject", doomed(r, arn)
		}
		return "", nil
	}
	object := []string{arn + "/" + key}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return "s3:GetObject", object
	case http.MethodPut, http.MethodPost: // whole, in parts, begin and end of an upload
		return "s3:PutObject", object
	case http.MethodDelete:
		if q.Has("uploadId") {
			return "s3:AbortMultipartUpload", object
		}
		return "s3:DeleteObject", object
	}
	return "", nil
}

// doomed is what a DeleteObjects names in its body, which is left to be read again.
func doomed(r *http.Request, arn string) (objects []string) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var request struct {
		Object []struct{ Key string }
	}
	if err != nil || xml.Unmarshal(body, &request) != nil {
		return nil
	}
	for _, o := range request.Object {
		objects = append(objects, arn+"/"+o.Key)
	}
	return objects
}

// guard is an S3 that lets through what a policy allows, and remembers the actions.
type guard struct {
	url  string
	next http.Handler

	mu       sync.Mutex
	policy   *policy
	used     map[string]int
	touched  []string        // resources
	kinds    map[string]bool // of requests, finer than actions
	denied   []string
	badParts int // so many parts of an upload fail
}

func newGuard(t *testing.T) *guard {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	g := &guard{next: gofakes3.New(store).Server()}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	g.url = srv.URL
	return g
}

// obey begins to count anew, under another policy.
func (g *guard) obey(p *policy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy, g.used, g.touched, g.kinds, g.denied = p, map[string]int{}, nil, map[string]bool{}, nil
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action, resources := actionOf(r)
	g.mu.Lock()
	allowed := len(resources) > 0
	for _, resource := range resources {
		allowed = allowed && g.policy.allows(action, resource)
	}
	spoil := false
	if allowed {
		g.used[action]++
		g.touched = append(g.touched, resources...)
		q := r.URL.Query()
		for _, name := range []string{"uploads", "partNumber", "delete", "uploadId"} {
			if q.Has(name) {
				g.kinds[r.Method+" "+name] = true
				break
			}
		}
		if spoil = q.Has("partNumber") && g.badParts > 0; spoil {
			g.badParts--
		}
	} else {
		g.denied = append(g.denied, fmt.Sprintf("%s %s (%q)", r.Method, r.URL, action))
	}
	g.mu.Unlock()
	switch {
	case !allowed:
		refuse(w, http.StatusForbidden, "AccessDenied")
	case spoil:
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, http.StatusBadRequest, "InvalidPart")
	default:
		g.next.ServeHTTP(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>by the test</Message></Error>", code)
}

// exactly asserts that everything was allowed, and that nothing was for nothing.
func (g *guard) exactly(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.denied {
		t.Errorf("not allowed: %s", d)
	}
	for _, a := range g.policy.actions() {
		if g.used[a] == 0 {
			t.Errorf("%s is allowed and was never used", a)
		}
	}
	for _, s := range g.policy.Statement {
		for _, pattern := range s.Resource {
			if !slices.ContainsFunc(g.touched, func(resource string) bool { return matches(pattern, resource) }) {
				t.Errorf("%s is allowed and was never used", pattern)
			}
		}
	}
	t.Logf("%v", g.used)
}

func (g *guard) has(kind string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.kinds[kind]
}

func (g *guard) replica(t *testing.T) *multidb.S3Replica {
	t.Helper()
	r, err := multidb.NewS3Replica(multidb.S3Config{
		Bucket: bucket, Path: "litestream/{{project}}/{{database}}/", Endpoint: g.url, Region: "us-east-1",
		AccessKeyID: "key", SecretAccessKey: "secret", PartSize: 5 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

// TestThePoliciesAllowWhatIsDoneAndNothingElse goes through all that multidb does
// with a bucket, behind a guard that enforces the policy of the document.
func TestThePoliciesAllowWhatIsDoneAndNothingElse(t *testing.T) {
	t.Parallel()
	g, root := newGuard(t), t.TempDir()
	t.Run("replicating", func(t *testing.T) {
		g.obey(policyUnder(t, "The IAM policy"))
		replicate(t, g, root)
		for _, kind := range []string{"POST uploads", "PUT partNumber", "POST uploadId", "DELETE uploadId", "POST delete"} {
			if !g.has(kind) {
				t.Errorf("there was no %s", kind)
			}
		}
		g.exactly(t)
	})
	t.Run("restoring", func(t *testing.T) {
		g.obey(policyUnder(t, "A policy for restoring"))
		restore(t, g.replica(t))
		g.exactly(t)
	})
	t.Run("restoring may not write", func(t *testing.T) {
		g.obey(policyUnder(t, "A policy for restoring"))
		if err := g.replica(t).Check(t.Context()); err == nil {
			t.Error("a check that writes went through")
		}
	})
}

func TestThePolicyForAFleetLogAllowsWhatIsDoneAndNothingElse(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	g.obey(policyUnder(t, "A policy for a fleet log"))
	replicate(t, g, t.TempDir(), multidb.WithFleetLog(multidb.FleetLogConfig{UnpackInterval: 10 * time.Millisecond}))
	g.exactly(t)
}

// replicate lets a tenant grow, compacts and deletes, fails one large upload,
// restores and goes.
func replicate(t *testing.T, g *guard, root string, more ...multidb.Option) {
	t.Helper()
	r := g.replica(t)
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(append(more,
		multidb.WithReplica(r),
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{project}}/{{database}}.db"))),
		multidb.WithSyncInterval(10*time.Millisecond), multidb.WithColdSyncInterval(10*time.Millisecond),
		multidb.WithL0Retention(10*time.Millisecond), multidb.WithRetentionInterval(10*time.Millisecond),
		multidb.WithRetention(10*time.Millisecond),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const id = "acme/orders"
	write := func(query string) {
		t.Helper()
		if err := m.Do(t.Context(), id, func(db *sql.DB) error { _, err := db.Exec(query); return err }); err != nil {
			t.Fatal(err)
		}
	}
	write("CREATE TABLE t(v)")
	if _, err := m.Sync(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.badParts = 1 // the next compaction is aborted
	g.mu.Unlock()
	write("INSERT INTO t VALUES(randomblob(9000000))")
	eventually(t, "an upload is aborted and files are deleted", func() bool {
		write("INSERT INTO t VALUES(1)")
		if _, err := m.Sync(t.Context(), id); err != nil {
			t.Log(err)
		}
		return g.has("DELETE uploadId") && g.has("POST delete") && g.has("POST uploadId")
	})
	if err := m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "r.db")}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

// restore does what ls, status, snapshots, verify, restore and restore-all do.
func restore(t *testing.T, r *multidb.S3Replica) {
	t.Helper()
	found := 0
	for db, err := range multidb.ListTenants(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		for _, exact := range []bool{false, true} {
			if files, err := multidb.ReplicaFiles(t.Context(), r, db, exact); err != nil || len(files) == 0 {
				t.Fatalf("%d files, %v", len(files), err)
			}
		}
		for i, opt := range []multidb.RestoreOptions{{}, {Timestamp: time.Now().Add(time.Hour)}} {
			opt.OutputPath = filepath.Join(t.TempDir(), fmt.Sprint(i, ".db"))
			if err := multidb.RestoreFrom(t.Context(), r, db, opt); err != nil {
				t.Error(err)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d tenants", found)
	}
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !true() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not so after five minutes: %s", what)
		}
	}
}
