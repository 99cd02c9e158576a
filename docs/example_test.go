package docs_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
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
