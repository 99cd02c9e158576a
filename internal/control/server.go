package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Limits of a client. A request and its answer are small, except the list of the
// tenants, which is written as it is read.
const (
	maxConns       = 16
	maxHeaderBytes = 64 << 10 // an ID is in it
	askTimeout     = 5 * time.Second
	answerTimeout  = time.Minute
	// pushable is how old a connection that is being answered must be before it may
	// be closed for a new one.
	pushable = 10 * time.Second
	// beat is how often the socket is given the time: what the process was seen at last, should
	// it be killed.
	beat = 5 * time.Second
)

// Server serves one directory. Made by Serve.
type Server struct {
	http   *http.Server
	path   string
	ended  chan struct{} // closed by Close
	joined sync.WaitGroup
	err    error // of Serve; read after joined
}

// Serve makes the socket in dir and answers on it until Close. The caller must
// hold dir against other processes: an existing socket is assumed to be left from a
// crash. logger gets the HTTP server's own errors. The error wraps ErrUnsafe if others
// can write to dir.
func Serve(dir string, source Source, logger *slog.Logger) (*Server, error) {
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	// It gets its final name only when nobody but the owner can use it.
	fresh := Socket + ".new"
	path, done, err := reach(dir, fresh)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(filepath.Join(dir, fresh)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it is renamed below
	s := &Server{path: filepath.Join(dir, Socket), ended: make(chan struct{}), http: &http.Server{
		Handler: asked(handler(source)), MaxHeaderBytes: maxHeaderBytes, ReadTimeout: askTimeout, WriteTimeout: answerTimeout,
		ConnContext: withConn, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}}
	s.http.SetKeepAlivesEnabled(false) // a client that was answered makes room
	err = os.Chmod(filepath.Join(dir, fresh), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(dir, fresh), s.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	s.joined.Go(func() {
		if err := s.http.Serve(newLimit(l)); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	})
	ticker := time.NewTicker(beat)
	s.joined.Go(func() {
		defer ticker.Stop()
		s.tick(ticker.C)
	})
	return s, nil
}

// tick gives the socket the time, until Close. Where that fails, Seen says an earlier time.
func (s *Server) tick(beats <-chan time.Time) {
	for {
		select {
		case now := <-beats:
			_ = os.Chtimes(s.path, now, now)
		case <-s.ended:
			return
		}
	}
}

// Seen returns when a process that serves dir, or has served it, was seen there last: zero if
// never. Of one that was killed it is a few seconds before that at most.
func Seen(dir string) time.Time {
	var last time.Time
	for _, name := range []string{Socket, "lock", "catalog.db", "catalog.db-wal"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// Close removes the socket and waits for the answers being written, until ctx ends;
// then it cuts them off. It is called once.
func (s *Server) Close(ctx context.Context) error {
	err := os.Remove(s.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	close(s.ended)
	if s.http.Shutdown(ctx) != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.joined.Wait()
	return errors.Join(err, s.err)
}

func handler(source Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/fleet", func(w http.ResponseWriter, r *http.Request) {
		maxLag, err := time.ParseDuration(r.FormValue("max_lag"))
		if err != nil || maxLag < 0 {
			fail(w, http.StatusBadRequest, fmt.Errorf("max_lag is %q: want a duration", r.FormValue("max_lag")))
			return
		}
		answer(w, source.Fleet(maxLag))
	})
	mux.HandleFunc("GET /v1/tenant", func(w http.ResponseWriter, r *http.Request) {
		t, err := source.Tenant(r.FormValue("id"))
		switch {
		case errors.Is(err, ErrNotFound):
			fail(w, http.StatusNotFound, err)
		case errors.Is(err, ErrNotOwner):
			fail(w, http.StatusMisdirectedRequest, errors.New(strings.TrimPrefix(err.Error(), ErrNotOwner.Error()+": ")))
		case err != nil:
			fail(w, http.StatusInternalServerError, err)
		default:
			answer(w, t)
		}
	})
	mux.HandleFunc("GET /v1/tenants", func(w http.ResponseWriter, r *http.Request) {
		enc := json.NewEncoder(w)
		for t := range source.Tenants() {
			if enc.Encode(t) != nil {
				return // the client has gone
			}
		}
	})
	if a, ok := source.(Actor); ok {
		mux.HandleFunc("POST /v1/act", act(a))
	}
	if l, ok := source.(Lifer); ok {
		mux.HandleFunc("GET /v1/removed", removed(l))
		mux.HandleFunc("POST /v1/each", eachOf(l, false))
		mux.HandleFunc("POST /v1/each/plan", eachOf(l, true))
		mux.HandleFunc("POST /v1/each/forget", forgetEach(l))
	}
	if c, ok := source.(Clusterer); ok {
		mux.HandleFunc("GET /v1/nodes", nodes(c))
		mux.HandleFunc("GET /v1/everywhere", everywhere(c))
		mux.HandleFunc("POST /v1/drain", drain(c))
	}
	return mux
}

// answer writes v. An error means that the client has gone.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Error{err.Error()})
}
