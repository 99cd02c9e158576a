package docs_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbtest"
)

func healthz(m *multidb.Manager) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ok, worst := m.Healthy(time.Minute)
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, s := range worst {
			_, _ = fmt.Fprintf(w, "%s: behind for %v: %v\n", s.ID, s.Lag.Round(time.Second), s.Err)
		}
	}
}

// byPlan is for multidb.WithPolicy.
func byPlan(db multidb.Database) multidb.Policy {
	if plan, _ := db.Var("plan"); plan == "free" {
		return multidb.Policy{Hot: multidb.HotNever, ColdSyncInterval: 2 * time.Minute}
	}
	return multidb.Policy{} // as the options say
}

// everywhere serves the requests of all tenants, on any node.
func everywhere(m multidbhttp.Owners, serve http.Handler, secret string) (http.Handler, error) {
	tenant := func(r *http.Request) (multidb.ID, error) { // acme.example.com
		name, _, _ := strings.Cut(r.Host, ".")
		return multidb.ID(name + "/main"), nil
	}
	return multidbhttp.Router(m, tenant, serve, multidbhttp.RouterOptions{Secret: secret})
}

// allMine is a cluster of one node.
type allMine struct{}

func (allMine) Owner(context.Context, multidb.ID) (multidb.Owner, error) {
	return multidb.Owner{Node: "a", Self: true}, nil
}

// Requests of all tenants as OPERATIONS.md has it.
func Example_router() {
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served ", r.Host) })
	handler, err := everywhere(allMine{}, serve, "4f9c1fa3e1d24b0c")
	if err != nil {
		panic(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://acme.example.com/", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output: 200 served acme.example.com
}

// Serving and stopping as OPERATIONS.md has it.
func Example() {
	dir, err := os.MkdirTemp("", "multidb-docs-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	m, err := multidb.New(
		multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithPolicy(byPlan),
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{project}}/{{database}}.db"))),
	)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := m.Start(ctx); err != nil {
		panic(err)
	}
	server := httptest.NewServer(healthz(m)).Config

	answer := httptest.NewRecorder()
	server.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	fmt.Println(answer.Code)

	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_ = server.Shutdown(bounded) // 1. no new requests; handles are released
	err = m.Close(bounded)       // 2. ships the rest, and names what is not durable
	fmt.Println(err)
	// Output:
	// 200
	// <nil>
}
