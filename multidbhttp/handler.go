package multidbhttp

import (
	"errors"
	"net/http"
	"strings"

	"github.com/multidb-go/multidb"
)

// Server serves what a Manager knows, as a page for people and as JSON for programs. Make it
// with Handler. It is an http.Handler; Serve serves it at a listener, too. Safe for
// concurrent use.
type Server struct {
	m       *multidb.Manager
	opt     Options
	handler http.Handler

	history  history
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
	s := &Server{m: m, opt: opt, sampling: make(chan struct{}, 1)}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.fleet)
	mux.HandleFunc("GET /databases", s.list)
	mux.HandleFunc("GET /database", s.tenant)
	mux.HandleFunc("GET /static/{name}", serveAsset)
	return http.StripPrefix(strings.TrimSuffix(s.opt.Base, "/"), mux)
}

func (s *Server) fleet(w http.ResponseWriter, r *http.Request)  { _ = renderFleet(w, r, &fleetView{}) }
func (s *Server) list(w http.ResponseWriter, r *http.Request)   { _ = renderList(w, r, &listView{}) }
func (s *Server) tenant(w http.ResponseWriter, r *http.Request) { _ = renderTenant(w, r, &tenantView{}) }
