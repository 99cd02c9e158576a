package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
)

const bucket = "bench"

// The paths of the server that are no S3: about the server.
const (
	pathStats  = "/-bench/stats"
	pathRecord = "/-bench/record"
	pathSeqs   = "/-bench/seqs"
	pathHang   = "/-bench/hang"
	pathDelay  = "/-bench/delay"
)

// s3Stats is what the server has seen.
type s3Stats struct {
	Put, Get, List, Head, Delete int64 // requests
	BytesIn, BytesOut            int64 // of bodies
	Protected                    int   // databases that have a file
	LastProtected                int64 // when the last of them got its first, in Unix nanoseconds
	CPU                          float64
	By                           map[string]int64 // requests by kind and what they are for, such as "put log"
}

func (s s3Stats) total() int64 { return s.Put + s.Get + s.List + s.Head + s.Delete }

func (s s3Stats) minus(o s3Stats) s3Stats {
	s.Put -= o.Put
	s.Get -= o.Get
	s.List -= o.List
	s.Head -= o.Head
	s.Delete -= o.Delete
	s.BytesIn -= o.BytesIn
	s.BytesOut -= o.BytesOut
	s.CPU -= o.CPU
	s.By = maps.Clone(s.By)
	for what, n := range o.By {
		if s.By[what] -= n; s.By[what] == 0 {
			delete(s.By, what)
		}
	}
	return s
}

// arrivedSeq is a commit that arrived: the mark it left in its database.
type arrivedSeq struct {
	Prefix string
	Seq    int
	At     int64 // Unix nanoseconds
}

// s3Server is the S3 of a scenario.
type s3Server struct {
	store *store
	fake  http.Handler

	mu    sync.Mutex
	stats s3Stats
	hang  chan struct{} // closed when it ends; nil: it answers
	delay time.Duration // before each answer
}

// s3Role serves S3 from memory until in ends, and tells where on out.
func s3Role(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(400) // it holds much, and should not be what is measured
	st, err := newStore(bucket)
	if err != nil {
		return err
	}
	s := &s3Server{store: st, fake: gofakes3.New(st).Server(), stats: s3Stats{By: map[string]int64{}}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	var served sync.WaitGroup
	var serveErr error
	served.Go(func() { serveErr = srv.Serve(ln) })
	if err := json.NewEncoder(out).Encode("http://" + ln.Addr().String()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	s.setHang(false)
	err = errors.Join(err, srv.Close())
	served.Wait()
	if !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

func (s *s3Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/-bench/") {
		s.control(w, r)
		return
	}
	s.mu.Lock()
	hang, delay := s.hang, s.delay
	s.countLocked(r)
	s.mu.Unlock()
	if delay > 0 && pause(r.Context(), delay) != nil {
		return // who asked has gone
	}
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	cw := &countingWriter{ResponseWriter: w}
	s.fake.ServeHTTP(cw, r)
	s.mu.Lock()
	s.stats.BytesOut += cw.n
	s.mu.Unlock()
}

func (s *s3Server) countLocked(r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
	_, isKey := prefixOf(key)
	s.stats.BytesIn += max(r.ContentLength, 0)
	kind, n := "list", &s.stats.List
	switch {
	case r.Method == http.MethodPut:
		kind, n = "put", &s.stats.Put
	case r.Method == http.MethodHead:
		kind, n = "head", &s.stats.Head
	case r.Method == http.MethodDelete, r.Method == http.MethodPost && r.URL.Query().Has("delete"):
		kind, n = "delete", &s.stats.Delete
	case r.Method == http.MethodPost: // of a multipart upload
		kind, n = "put", &s.stats.Put
	case isKey:
		kind, n = "get", &s.stats.Get
	default:
		key = r.URL.Query().Get("prefix")
	}
	*n++
	s.stats.By[kind+" "+classOf(key)]++
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.n += int64(n)
	return n, err
}

func (s *s3Server) setHang(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case on && s.hang == nil:
		s.hang = make(chan struct{})
	case !on && s.hang != nil:
		close(s.hang)
		s.hang = nil
	}
}

// control answers the scenarios' questions.
func (s *s3Server) control(w http.ResponseWriter, r *http.Request) {
	on := r.URL.Query().Get("on") == "1"
	var answer any = true
	var err error
	switch r.URL.Path {
	case pathStats:
		s.mu.Lock()
		st := s.stats
		st.By = maps.Clone(st.By)
		s.mu.Unlock()
		s.store.mu.Lock()
		st.Protected = s.store.protected
		if !s.store.last.IsZero() {
			st.LastProtected = s.store.last.UnixNano()
		}
		s.store.mu.Unlock()
		st.CPU = cpuTime()
		answer = st
	case pathRecord:
		s.store.record(on)
	case pathSeqs:
		answer, err = s.store.seqs(bucket)
	case pathHang:
		s.setHang(on)
	case pathDelay:
		var d time.Duration
		if d, err = time.ParseDuration(r.URL.Query().Get("by")); err == nil {
			s.mu.Lock()
			s.delay = d
			s.mu.Unlock()
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // who asked has gone
}
