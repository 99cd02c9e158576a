package main

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbprom"
)

// routes returns what is served, and the page that must Run; nil: there is none without a token.
func routes(m *multidb.Manager, adminToken string) (http.Handler, *multidbhttp.Server, error) {
	mux := http.NewServeMux()
	c := customers{m}
	mux.Handle("POST /customers", handler(c.signup))
	mux.Handle("POST /customers/{customer}/payments", handler(c.pay))
	mux.Handle("GET /customers/{customer}/payments", handler(c.payments))
	if adminToken == "" {
		return mux, nil, nil
	}
	metrics, err := multidbprom.Handler(m)
	if err != nil {
		return nil, nil, err
	}
	ops, err := multidbhttp.Handler(m, multidbhttp.Options{Title: "backend", Base: "/ops", Token: adminToken, Metrics: metrics})
	if err != nil {
		return nil, nil, err
	}
	mux.Handle("/ops/", ops) // the page, /ops/metrics, /ops/readyz: they ask for the token themselves
	a := admin{m, adminToken}
	mux.Handle("GET /admin/customers/{customer}/copy", a.only(a.copyOf))
	mux.Handle("DELETE /admin/customers/{customer}", a.only(handler(a.erase).ServeHTTP))
	return mux, ops, nil
}

// admin serves support and whoever is called at night.
type admin struct {
	m     *multidb.Manager
	token string
}

func (a admin) only(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Bearer " + a.token
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
			http.Error(w, "want the admin token", http.StatusUnauthorized)
			return
		}
		next(w, r)
	})
}

// copyOf sends a customer's database, as it is or as it was at a time (at=2026-01-31T12:00:00Z).
// What is in service is not touched.
func (a admin) copyOf(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("customer")
	var at time.Time
	if s := r.FormValue("at"); s != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, s); err != nil {
			http.Error(w, "want at as 2026-01-31T12:00:00Z", http.StatusBadRequest)
			return
		}
	}
	dir, err := os.MkdirTemp("", "backend-copy-*")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "copy.db")
	if err := a.m.Restore(r.Context(), multidb.ID(name), multidb.RestoreOptions{OutputPath: path, Timestamp: at}); err != nil {
		http.Error(w, err.Error(), explain(err).status) // support may read all of it
		return
	}
	w.Header().Set("Content-Type", "application/vnd.sqlite3")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+".db"))
	http.ServeFile(w, r, path)
}

// erase forgets a customer for good, and answers with a record of it.
func (a admin) erase(r *http.Request) (status int, answer any, err error) {
	record, err := a.m.Erase(r.Context(), multidb.ID(r.PathValue("customer")))
	return http.StatusOK, record, err
}
