package node

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
)

// Service keeps notes of tenants. It runs on every node, behind a multidbhttp.Router, which brings each
// request to the node of its tenant.
//
//	PUT /tenants/{tenant}/notes/{key}   the body is the note; 200 means that it is durable
//	GET /tenants/{tenant}/notes         all of them, as a JSON object of key and text
//	GET /node                           what this node knows of the cluster; for any node
type Service struct {
	Manager *multidb.Manager
	Node    string
}

// Schema is that of a tenant.
const Schema = "CREATE TABLE IF NOT EXISTS note(key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"

const maxNote = 64 << 10

// ServedBy is a header of the answer: the node whose handler has made it.
const ServedBy = "Served-By"

// Handler is for behind a Router.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /tenants/{tenant}/notes/{key}", s.put)
	mux.HandleFunc("GET /tenants/{tenant}/notes", s.list)
	mux.HandleFunc("GET /node", s.status)
	return mux
}

// names are what a tenant may be called: it becomes a file name, and a path in the bucket.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// TenantOf is for the Router. A request for no tenant is served by the node that gets it.
func TenantOf(r *http.Request) (multidb.ID, error) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/tenants/")
	if !ok {
		return "", nil
	}
	tenant, _, _ := strings.Cut(rest, "/")
	if !names.MatchString(tenant) {
		return "", errors.New("want a tenant of a-z, 0-9 and -")
	}
	return multidb.ID(tenant), nil
}

func (s *Service) put(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNote))
	if err != nil {
		http.Error(w, "the note cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	id := multidb.ID(r.PathValue("tenant"))
	if s.failed(w, r, s.write(r, id, r.PathValue("key"), string(text))) {
		return
	}
	w.Header().Set(ServedBy, s.Node)
	w.WriteHeader(http.StatusOK)
}

// write returns when a note is durable. The handle is held until then, so that the tenant does
// not move between the commit and Sync.
func (s *Service) write(r *http.Request, id multidb.ID, key, text string) error {
	h, err := s.Manager.Acquire(r.Context(), id)
	if err != nil {
		return err
	}
	defer h.Release()
	_, err = h.DB().ExecContext(r.Context(), "INSERT INTO note(key, text) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET text = excluded.text", key, text)
	if err != nil {
		return err
	}
	_, err = s.Manager.Sync(r.Context(), id)
	return err
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) {
	var all map[string]string
	err := s.Manager.Do(r.Context(), multidb.ID(r.PathValue("tenant")), func(db *sql.DB) (err error) {
		all, err = Notes(r.Context(), db)
		return err
	})
	if s.failed(w, r, err) {
		return
	}
	w.Header().Set(ServedBy, s.Node)
	answer(w, all)
}

// failed answers a request that has failed, and reports whether it has. A PUT may be sent again to another node,
// also after it was committed here: the same note twice is one note.
func (s *Service) failed(w http.ResponseWriter, r *http.Request, err error) bool {
	switch {
	case err == nil:
		return false
	case multidbhttp.NotOwner(w, r, err):
		return true
	case r.Context().Err() == nil: // else nobody waits for the answer
		slog.Error("a request has failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "it failed here; send it again", http.StatusServiceUnavailable)
	return true
}

// Status is what GET /node answers: how many shards the node serves, is to serve and gives away right
// now, and how many nobody has.
type Status struct{ Shards, Expected, Moving, Free int }

func (s *Service) status(w http.ResponseWriter, _ *http.Request) {
	n := s.Manager.Nodes()
	answer(w, Status{n.Served, n.Expected, n.Moving, n.Free})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who does not read it has gone
}

// Notes reads all notes of a tenant.
func Notes(ctx context.Context, db *sql.DB) (all map[string]string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT key, text FROM note")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all = map[string]string{}
	for rows.Next() {
		var key, text string
		if err := rows.Scan(&key, &text); err != nil {
			return nil, err
		}
		all[key] = text
	}
	return all, rows.Err()
}
