package torture

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// httpFault answers a request in place of the server, or hands it on.
type httpFault func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler)

// httpLayer stands between the network and a server and can answer for it. The
// faults are those of requests for "sick", and for a fleet log, alone.
type httpLayer struct {
	srv   *httptest.Server
	fault atomic.Pointer[httpFault]
	mu    sync.Mutex
	rng   *rand.Rand
}

func newHTTPLayer(t testing.TB, next http.Handler, seed uint64) *httpLayer {
	l := &httpLayer{rng: rand.New(rand.NewPCG(seed, 5))}
	ill := func(s string) bool { return strings.Contains(s, "sick/") || strings.Contains(s, logDir+"/") }
	l.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := l.fault.Load()
		if f == nil || !ill(r.URL.Path) && !ill(strings.ReplaceAll(r.URL.RawQuery, "%2F", "/")) {
			next.ServeHTTP(w, r)
			return
		}
		l.mu.Lock()
		own := rand.New(rand.NewPCG(l.rng.Uint64(), 6))
		l.mu.Unlock()
		(*f)(own, w, r, next)
	}))
	l.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients give up in mid-request
	l.srv.Start()
	t.Cleanup(l.srv.Close)
	return l
}

func delayed(_ *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
	pause(200 * time.Millisecond)
	next.ServeHTTP(w, r)
}

// resetHalfway reads half of a body and ends the connection.
func resetHalfway(_ *rand.Rand, w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	reset(w)
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected</Message></Error>", code)
}

func answer(status int, code string) httpFault {
	return func(_ *rand.Rand, w http.ResponseWriter, r *http.Request, _ http.Handler) { refuse(w, r, status, code) }
}

// storm fails nine requests of ten.
func storm(status int, code string) httpFault {
	return func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		if rng.IntN(10) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		refuse(w, r, status, code)
	}
}

// lostAnswer applies every write and answers none; reads go on, or are other's.
func lostAnswer(read httpFault) httpFault {
	return func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.Method == http.MethodPut:
			next.ServeHTTP(httptest.NewRecorder(), r)
			reset(w)
		case r.Method == http.MethodGet && read != nil:
			read(rng, w, r, next)
		default:
			next.ServeHTTP(w, r)
		}
	}
}

// truncated announces a whole body and sends half of it.
func truncated(_ *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	announce(w, rec, len(body))
	_, _ = w.Write(body[:len(body)/2])
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	reset(w)
}

// damaged loses the answers of half of the writes, and changes a byte or cuts a
// piece off in every body that is read: what comes is no file of anybody's.
func damaged(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch {
	case r.Method == http.MethodPut && rng.IntN(2) == 0:
		next.ServeHTTP(httptest.NewRecorder(), r)
		reset(w)
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".ltx"):
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		body := bytes.Clone(rec.Body.Bytes())
		if rec.Code < 300 && len(body) > 0 {
			if rng.IntN(3) == 0 {
				body = body[:len(body)-1-rng.IntN(len(body))]
			} else {
				body[len(body)-1-rng.IntN(min(len(body), 200))] ^= 1 << rng.IntN(8)
			}
		}
		announce(w, rec, len(body))
		_, _ = w.Write(body)
	default:
		next.ServeHTTP(w, r)
	}
}

// portal answers as no store does: what a login page or a wrong port says.
func portal(rng *rand.Rand, w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	if rng.IntN(2) == 0 {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<html><body><p>Please log in.</p></body></html>")
}

// announce passes the head of an answer on, with a body of n bytes.
func announce(w http.ResponseWriter, rec *httptest.ResponseRecorder, n int) {
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(rec.Code)
}

// reset ends the connection without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}
