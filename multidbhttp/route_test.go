package multidbhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/multidb-go/multidb"
)

// ownersFunc is a node's view of who serves what.
type ownersFunc func(context.Context, multidb.ID) (multidb.Owner, error)

func (f ownersFunc) Owner(ctx context.Context, id multidb.ID) (multidb.Owner, error) {
	return f(ctx, id)
}

// byPath says that the first segment of a path is the tenant.
func byPath(r *http.Request) (multidb.ID, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if id == "bad" {
		return "", errors.New("a bad tenant")
	}
	return multidb.ID(id), nil
}

// routed is a node with a Router before a handler.
type routed struct {
	t      *testing.T
	name   string
	url    string
	router *RouteHandler
	served atomic.Int64 // how often the handler was called
	log    lockedBuffer

	mu   sync.Mutex
	view func() multidb.Owner
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRouted starts a node. opt may be nil. It believes that it serves everything until it is told otherwise.
func newRouted(t *testing.T, name string, handler http.HandlerFunc, opt func(*RouterOptions)) *routed {
	t.Helper()
	n := &routed{t: t, name: name}
	n.sees(multidb.Owner{Node: name, Self: true})
	opts := RouterOptions{Logger: slog.New(slog.NewTextHandler(&n.log, nil))}
	if opt != nil {
		opt(&opts)
	}
	owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.view(), nil
	})
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.served.Add(1)
		handler(w, r)
	})
	router, err := Router(owners, byPath, counted, opts)
	if err != nil {
		t.Fatal(err)
	}
	n.router = router
	server := httptest.NewServer(router)
	n.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		router.CloseIdleConnections()
	})
	return n
}

// sees changes what the node believes: each request for an owner takes the next of owners, and
// the last of them stays.
func (n *routed) sees(owners ...multidb.Owner) {
	var calls int
	n.mu.Lock()
	defer n.mu.Unlock()
	n.view = func() multidb.Owner {
		calls++
		return owners[min(calls, len(owners))-1]
	}
}

func (n *routed) asOwner() multidb.Owner { return multidb.Owner{Node: n.name, URL: n.url} }

// send sends a request to a node. Its body is of known length if it is a string.
func (n *routed) send(method, path string, body any, headers ...string) answer {
	n.t.Helper()
	a, err := n.trySend(method, path, body, headers...)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *routed) trySend(method, path string, body any, headers ...string) (answer, error) {
	var from io.Reader
	switch b := body.(type) {
	case string:
		from = strings.NewReader(b)
	case io.Reader:
		from = b
	}
	r, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, from)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	for name, values := range resp.Trailer {
		resp.Header["Trailer:"+name] = values
	}
	return answer{resp.StatusCode, resp.Header, string(b), path}, nil
}

// nothing is a handler that must not be called.
func nothing(t *testing.T) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { t.Errorf("it was asked for %s", r.URL) }
}

// says answers with the node's name and what it has read.
func says(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprintf(w, "%s got %d bytes: %.20s", name, len(b), b)
	}
}

func TestARequestIsServedByTheNodeThatOwnsItsDatabase(t *testing.T) {
	b := newRouted(t, "b", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "1")
		w.Header().Add("Set-Cookie", "k=v")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "%s %s %s %q hops=%s for=%q host=%s proto=%s encoding=%s length=%d", r.Method, r.RequestURI, r.Host, body, r.Header.Get(hopsHeader),
			r.Header["X-Forwarded-For"], r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Accept-Encoding"), r.ContentLength)
	}, nil)
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(b.asOwner())
	got := a.send("PATCH", "/acme/a%2Fb/%20c?q=1;2&r=%zz&s", "body", "Host", "ignored", "X-Forwarded-For", "192.0.2.1")
	host := strings.TrimPrefix(a.url, "http://")
	want := fmt.Sprintf(`PATCH /acme/a%%2Fb/%%20c?q=1;2&r=%%zz&s %s "body" hops=1 for=["192.0.2.1, 127.0.0.1"] host=%s proto=http encoding= length=4`, host, host)
	if got.status != http.StatusTeapot || got.body != want || got.header.Get("X-Answer") != "1" || got.header.Get("Set-Cookie") != "k=v" {
		t.Errorf("got %d %v %s\nwant %s", got.status, got.header, got.body, want)
	}
	if s := a.router.Stats(); s != (RouterStats{PassedOn: 1}) {
		t.Errorf("%+v", s)
	}
	direct := b.send("GET", "/acme/", nil, "X-Forwarded-Host", "www.example", "X-Forwarded-Proto", "https")
	if !strings.Contains(direct.body, " hops= for=[] host=www.example proto=https ") || !strings.HasSuffix(direct.body, "length=0") {
		t.Errorf("at the owner: %s", direct.body)
	}
	viaA := a.send("POST", "/acme/", nil, "X-Forwarded-Host", "www.example", "X-Forwarded-Proto", "https")
	if !strings.Contains(viaA.body, " host=www.example proto=https ") || !strings.HasSuffix(viaA.body, "length=0") {
		t.Errorf("as a load balancer with TLS has it: %s", viaA.body)
	}
	if s := b.router.Stats(); s != (RouterStats{}) || b.served.Load() != 3 {
		t.Errorf("%+v, %d", s, b.served.Load())
	}
}

func TestARequestWithoutADatabaseIsServedByAnyNode(t *testing.T) {
	a := newRouted(t, "a", says("a"), nil)
	a.sees(multidb.Owner{Node: "b", URL: "http://127.0.0.1:1"})
	if got := a.send("GET", "/", nil); got.status != 200 || !strings.HasPrefix(got.body, "a got") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := a.send("GET", "/bad/", nil); got.status != 400 || got.body != "a bad tenant\n" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if s := a.router.Stats(); s != (RouterStats{Refused: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestTheFirstPartOfAnAnswerArrivesBeforeTheLastIsMade(t *testing.T) {
	for _, kind := range []string{"text/event-stream", "text/plain"} {
		for _, length := range []string{"", "6"} {
			goOn := make(chan struct{})
			b := newRouted(t, "b", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "one")
				w.(http.Flusher).Flush()
				<-goOn
				_, _ = io.WriteString(w, "two")
			}, nil)
			a := newRouted(t, "a", nothing(t), nil)
			a.sees(b.asOwner())
			resp, err := http.Get(a.url + "/acme/")
			if err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 3)
			if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "one" {
				t.Errorf("%q %v", first, err)
			}
			close(goOn)
			rest, err := io.ReadAll(resp.Body)
			if err != nil || string(rest) != "two" {
				t.Errorf("%q %v", rest, err)
			}
			resp.Body.Close()
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestABodyAndItsAnswerStreamAtTheSameTime(t *testing.T) {
	b := newRouted(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		p := make([]byte, 10)
		for {
			n, err := r.Body.Read(p)
			_, _ = w.Write(bytes.ToUpper(p[:n]))
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}, nil)
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(b.asOwner())
	from, to := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", a.url+"/acme/", from)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	go func() { _, _ = io.WriteString(to, "one") }()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p := make([]byte, 3)
	for _, word := range []string{"one", "two", "six"} {
		if word != "one" {
			if _, err := io.WriteString(to, word); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != strings.ToUpper(word) {
			t.Fatalf("%q %v", p, err)
		}
	}
	_ = to.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

func TestTheOwnerIsToldWhenTheClientHasGone(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	b := newRouted(t, "b", func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- r.Context().Err()
	}, nil)
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(b.asOwner())
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", a.url+"/acme/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-began; cancel() }()
	if _, err := http.DefaultTransport.RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the owner: %v", err)
	}
}

func TestAWebSocketReachesTheOwner(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") != "k" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	}
	b := newRouted(t, "b", echo, nil)
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(b.asOwner())
	for _, n := range []*routed{a, b} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /acme/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
		from := bufio.NewReader(conn)
		resp, err := http.ReadResponse(from, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" {
			t.Fatalf("%s: %v %v", n.name, resp, err)
		}
		_, _ = io.WriteString(conn, "hello\n")
		if got, err := from.ReadString('\n'); err != nil || got != "echo hello\n" {
			t.Errorf("%s: %q %v", n.name, got, err)
		}
		_ = conn.Close()
	}
}

func TestTrailersPassBothWaysAndOnceMore(t *testing.T) {
	b := newRouted(t, "b", movedTo, nil)
	c := newRouted(t, "c", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprintf(w, "%s and %s", body, r.Trailer.Get("X-Check"))
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43")
	}, nil)
	a := newRouted(t, "a", nothing(t), nil)
	for _, owners := range [][]multidb.Owner{{c.asOwner()}, {b.asOwner(), c.asOwner()}} {
		a.sees(owners...)
		r, err := http.NewRequestWithContext(t.Context(), "POST", a.url+"/acme/", io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Check": {"ok"}}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != "body and ok" || resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "43" {
			t.Errorf("%q %v %v", got, err, resp.Trailer)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
