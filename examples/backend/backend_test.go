package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/process"
	"github.com/multidb-go/multidb/multidbtest"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	if process.Wanted() {
		main()
		return
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the service's own: what it says of failures is tested by its answers
	goleak.VerifyTestMain(m)
}

const adminToken = "an-admin-token-of-a-test"

// service is the backend, in this process, with a replica in memory.
type service struct {
	t       *testing.T
	m       *multidb.Manager
	replica *multidbtest.Replica
	handler http.Handler
	data    string
}

func serve(t *testing.T) *service {
	s := &service{t: t, replica: multidbtest.NewReplica(multidbtest.WithPathTemplate("customers/{{customer}}/")), data: t.TempDir()}
	s.begin()
	t.Cleanup(s.end)
	return s
}

func (s *service) begin() {
	s.t.Helper()
	var err error
	if s.m, err = open(s.data, s.replica); err != nil {
		s.t.Fatal(err)
	}
	if err := s.m.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if s.handler, _, err = routes(s.m, adminToken); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) end() {
	if err := s.m.Close(context.Background()); err != nil {
		s.t.Error(err)
	}
}

// do makes a request, checks the status and returns the body.
func (s *service) do(method, path, body string, want int) string {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, path, strings.NewReader(body))
	if strings.HasPrefix(path, "/admin/") {
		r.Header.Set("Authorization", "Bearer "+adminToken)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != want {
		s.t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
	}
	return w.Body.String()
}

func (s *service) signup(name string) {
	s.t.Helper()
	s.do("POST", "/customers", fmt.Sprintf(`{"name": %q, "email": "ann@%[1]s.example"}`, name), http.StatusCreated)
}

// paid are the keys of a customer's payments.
func (s *service) paid(name string) (keys []string) {
	s.t.Helper()
	var all []payment
	if err := json.Unmarshal([]byte(s.do("GET", "/customers/"+name+"/payments", "", http.StatusOK)), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range all {
		keys = append(keys, p.Key)
	}
	return keys
}

func TestACustomerSignsUpAndPays(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	s.do("POST", "/customers", `{"name": "acme", "email": "bob@acme.example"}`, http.StatusConflict)
	s.do("POST", "/customers", `{"name": "../acme", "email": "bob@acme.example"}`, http.StatusBadRequest)
	s.do("POST", "/customers", `{"name"`, http.StatusBadRequest)
	for range 2 { // sent again, it is the same payment
		s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 1900}`, http.StatusCreated)
	}
	s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 2000}`, http.StatusConflict)
	s.do("POST", "/customers/acme/payments", `{"key": "order-2", "cents": -1}`, http.StatusBadRequest)
	if got := s.paid("acme"); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("paid: %q", got)
	}
}

func TestAMistypedNameMakesNoCustomer(t *testing.T) {
	s := serve(t)
	s.do("GET", "/customers/acmee/payments", "", http.StatusNotFound)
	s.do("POST", "/customers/acmee/payments", `{"key": "order-1", "cents": 1900}`, http.StatusNotFound)
	if files, err := filepath.Glob(filepath.Join(s.data, "*.db")); err != nil || len(files) > 0 {
		t.Errorf("there are %v, %v", files, err)
	}
	if n := len(s.replica.Files("customers/acmee")); n > 0 {
		t.Errorf("its backup has %d files", n)
	}
}

func TestAPaymentIsConfirmedOnlyOnceTheBackupHasIt(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	down := s.replica.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: io.ErrUnexpectedEOF})
	s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 1900}`, http.StatusServiceUnavailable)
	down.Clear()
	s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 1900}`, http.StatusCreated)
	if got := s.paid("acme"); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("paid: %q", got)
	}
	if got := keysOf(t, s.replica, "acme"); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("the backup has %q", got)
	}
}

func TestAMachineThatWasLostComesBackFromTheBackup(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 1900}`, http.StatusCreated)
	s.end()
	s.data = t.TempDir()
	s.begin()
	if got := s.paid("acme"); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("paid: %q", got)
	}
	s.do("POST", "/customers", `{"name": "acme", "email": "bob@acme.example"}`, http.StatusConflict)
}

func TestSupportGetsACopyAndErases(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	s.do("POST", "/customers/acme/payments", `{"key": "order-1", "cents": 1900}`, http.StatusCreated)
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, []byte(s.do("GET", "/admin/customers/acme/copy", "", http.StatusOK)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := keysIn(t, path); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("the copy has %q", got)
	}
	s.do("GET", "/admin/customers/acme/copy?at=yesterday", "", http.StatusBadRequest)
	s.do("GET", "/admin/customers/nobody/copy", "", http.StatusNotFound)

	var record multidb.Erasure
	if err := json.Unmarshal([]byte(s.do("DELETE", "/admin/customers/acme", "", http.StatusOK)), &record); err != nil || record.Objects == 0 || !record.Complete() {
		t.Errorf("erased: %+v, %v", record, err)
	}
	s.do("GET", "/customers/acme/payments", "", http.StatusNotFound)
	if n := len(s.replica.Files("customers/acme")); n > 0 {
		t.Errorf("%d files of its backup are left", n)
	}
}

func TestNobodyWithoutTheTokenIsServedAsSupport(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	for _, path := range []string{"/admin/customers/acme/copy", "/ops/", "/ops/databases", "/ops/metrics"} {
		for _, token := range []string{"", "Bearer ", "Bearer another", adminToken} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("Authorization", token)
			w := httptest.NewRecorder()
			if s.handler.ServeHTTP(w, r); w.Code == http.StatusOK || strings.Contains(w.Body.String(), "acme.example") {
				t.Errorf("%s with %q: %d", path, token, w.Code)
			}
		}
	}
}

// TestADatabaseOfAnOlderSchemaIsMigratedWhenItIsOpened, and all of them by -migrate.
func TestADatabaseOfAnOlderSchemaIsMigratedWhenItIsOpened(t *testing.T) {
	s := serve(t)
	s.signup("acme")
	s.signup("globex")
	s.end()
	for _, name := range []string{"acme", "globex"} {
		exec(t, filepath.Join(s.data, name+".db"), "DROP INDEX payment_at; PRAGMA user_version = 2")
	}
	s.begin()
	if err := migrateAll(t.Context(), s.m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme", "globex"} {
		err := s.m.Do(t.Context(), multidb.ID(name), func(db *sql.DB) error {
			var n int
			if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'payment_at'").Scan(&n); err != nil || n != 1 {
				t.Errorf("%s has %d of its index, %v", name, n, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestWhatWasConfirmedSurvivesAKill: the service is a process here. It is killed under load,
// and every payment that it confirmed is in the backup.
func TestWhatWasConfirmedSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	backups := filepath.Join(dir, "backups")
	p := process.Start(t, nil, "-addr", "127.0.0.1:0", "-data", filepath.Join(dir, "data"), "-backups", backups)
	p.Stderr.Await(t, "it listens")
	_, address, _ := strings.Cut(p.Stderr.String(), "addr=")
	address, _, _ = strings.Cut(address, "\n")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	post := func(path, body string) (int, error) {
		resp, err := client.Post(strings.TrimSpace(address)+path, "application/json", bytes.NewBufferString(body))
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	const customers, enough = 4, 40
	var mu sync.Mutex
	confirmed := map[string][]string{}
	total, reached := 0, make(chan struct{})
	var wg sync.WaitGroup
	for i := range customers {
		name := fmt.Sprint("customer-", i)
		if status, err := post("/customers", fmt.Sprintf(`{"name": %q, "email": "a@b.example"}`, name)); err != nil || status != http.StatusCreated {
			t.Fatalf("signup: %d, %v\n%s", status, err, &p.Stderr)
		}
		wg.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprint("order-", n)
				status, err := post("/customers/"+name+"/payments", fmt.Sprintf(`{"key": %q, "cents": 100}`, key))
				if err != nil {
					return // killed
				}
				if status != http.StatusCreated {
					t.Errorf("%s %s: %d", name, key, status)
					return
				}
				mu.Lock()
				confirmed[name] = append(confirmed[name], key)
				if total++; total == enough {
					close(reached)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-reached:
	case <-t.Context().Done():
	}
	p.Signal(os.Kill)
	p.Wait()
	wg.Wait()

	replica, err := backupsAt("", backups)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range confirmed {
		got := keysOf(t, replica, name)
		for _, key := range keys {
			if !slices.Contains(got, key) {
				t.Errorf("%s: %s was confirmed, and the backup has only %d payments", name, key, len(got))
			}
		}
	}
}

// TestAnOrderlyStopSaysThatTheBackupHasEverything, and ends with 0: whoever deploys by stopping
// it knows that another machine may go on.
func TestAnOrderlyStopSaysThatTheBackupHasEverything(t *testing.T) {
	dir := t.TempDir()
	backups := filepath.Join(dir, "backups")
	p := process.Start(t, nil, "-addr", "127.0.0.1:0", "-data", filepath.Join(dir, "data"), "-backups", backups)
	p.Stderr.Await(t, "it listens")
	_, address, _ := strings.Cut(p.Stderr.String(), "addr=")
	address, _, _ = strings.Cut(address, "\n")
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Post(strings.TrimSpace(address)+"/customers", "application/json", strings.NewReader(`{"name": "acme", "email": "a@b.example"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("signup: %d, %v", resp.StatusCode, err)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 || !strings.Contains(p.Stderr.String(), "the backup has everything") {
		t.Errorf("it ended with %d, and said:\n%s", code, &p.Stderr)
	}
	replica, err := backupsAt("", backups)
	if err != nil {
		t.Fatal(err)
	}
	if keys := keysOf(t, replica, "acme"); len(keys) != 0 {
		t.Errorf("payments that nobody made: %v", keys)
	}
}

// keysOf are the keys of the payments that a backup has.
func keysOf(t *testing.T, replica multidb.ReplicaFactory, name string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".db")
	db := multidb.Database{ID: multidb.ID(name), Vars: []multidb.Var{{Name: "customer", Value: name}}}
	if err := multidb.RestoreFrom(t.Context(), replica, db, multidb.RestoreOptions{OutputPath: path}); err != nil {
		t.Fatal(err)
	}
	return keysIn(t, path)
}

func keysIn(t *testing.T, path string) (keys []string) {
	t.Helper()
	db := opened(t, path)
	rows, err := db.Query("SELECT key FROM payment ORDER BY key")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func exec(t *testing.T, path, query string) {
	t.Helper()
	if _, err := opened(t, path).Exec(query); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
