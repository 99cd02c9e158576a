package multidbhttp

import (
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/multidb-go/multidb"
)

// Server serves what a Manager knows, as a page for people and as JSON for programs. Make it
// with Handler. It is an http.Handler; Serve serves it at a listener, too. Safe for
// concurrent use.
type Server struct {
	m       *multidb.Manager
	opt     Options
	handler http.Handler
	all     iter.Seq[multidb.Status]                 // Manager.All
	status  func(multidb.ID) (multidb.Status, error) // Manager.Status
	nodes   func() multidb.ClusterStatus             // Manager.Nodes
	index   index

	history  history
	health   health
	sessions sessions
	points   points
	actions  actions
	sampling chan struct{} // one Run at a time: whoever has put something in
}

// Handler returns the Server of a Manager, which need not be started yet. It does no I/O and
// starts nothing. The error says what is wrong with the options.
func Handler(m *multidb.Manager, opt Options) (*Server, error) {
	if m == nil {
		return nil, errors.New("multidbhttp: nil Manager")
	}
	if err := opt.check(); err != nil {
		return nil, err
	}
	s := &Server{m: m, opt: opt, all: m.All(), status: m.Status, nodes: m.Nodes, sampling: make(chan struct{}, 1)}
	s.index.init()
	s.points.init()
	s.actions.init()
	s.handler = http.StripPrefix(opt.Base, s.guarded(s.routes()))
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes are all paths. An ID is a parameter and no part of a path: it has slashes, and may
// have dots and percent signs that browsers and proxies change in a path.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /static/{name}", serveAsset)
	mux.HandleFunc("GET /login", s.login)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)

	mux.HandleFunc("GET /{$}", s.fleet)
	mux.HandleFunc("GET /databases", s.list)
	mux.HandleFunc("GET /database", s.tenant)
	mux.HandleFunc("GET /confirm", s.confirm)
	mux.HandleFunc("POST /act", s.act)

	mux.HandleFunc("GET /api/v1/stats", s.apiStats)
	mux.HandleFunc("GET /api/v1/nodes", s.apiNodes)
	mux.HandleFunc("GET /api/v1/databases", s.apiList)
	mux.HandleFunc("GET /api/v1/database", s.apiTenant)
	mux.HandleFunc("GET /api/v1/restore-points", s.apiPoints)
	mux.HandleFunc("GET /api/v1/events", s.apiEvents)
	mux.HandleFunc("POST /api/v1/{verb}", s.apiAct)
	if s.opt.Metrics != nil {
		mux.Handle("GET /metrics", s.opt.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, "There is no such page.")
	})
	return mux
}

func (s *Server) page(r *http.Request) page {
	return page{Base: s.opt.Base, Fleet: s.opt.Title, Now: time.Now(), LoggedIn: s.sessions.has(sessionOf(r))}
}

// fleet is GET /.
func (s *Server) fleet(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, func(w http.ResponseWriter) error { return renderFleet(w, r, s.fleetView(r)) })
}

// list is GET /databases.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	v, err := s.listView(r)
	if err != nil {
		s.refuse(w, r, http.StatusBadRequest, s.cleanErr(err))
		return
	}
	s.show(w, r, http.StatusOK, func(w http.ResponseWriter) error { return renderList(w, r, v) })
}

// tenant is GET /database?id=.
func (s *Server) tenant(w http.ResponseWriter, r *http.Request) {
	v := s.tenantView(r)
	status := http.StatusOK
	if !v.Found {
		status = http.StatusNotFound
	}
	s.show(w, r, status, func(w http.ResponseWriter) error { return renderTenant(w, r, v) })
}

// show answers with a page, and says so if that fails. render writes all of it or nothing.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, render func(http.ResponseWriter) error) {
	answer := &withStatus{ResponseWriter: w, status: status}
	err := render(answer)
	if err == nil || r.Context().Err() != nil {
		return
	}
	s.opt.Logger.Warn("multidbhttp: a page could not be written", "path", r.URL.Path, "err", err)
	if !answer.written {
		http.Error(w, "this page cannot be shown; the log says why", http.StatusInternalServerError)
	}
}

// withStatus sends a status before the first byte, when the headers are known.
type withStatus struct {
	http.ResponseWriter
	status  int
	written bool
}

func (w *withStatus) Write(b []byte) (int, error) {
	if !w.written {
		w.written = true
		w.WriteHeader(w.status)
	}
	return w.ResponseWriter.Write(b)
}
