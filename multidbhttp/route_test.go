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
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

const secret = "0123456789abcdef-secret"

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

// movedTo is a handler whose tenant has just gone.
func movedTo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if !NotOwner(w, r, &multidb.NotOwnerError{ID: "acme"}) {
		panic("it was no ErrNotOwner")
	}
}

func briefly(o *RouterOptions) { o.Wait = 100 * time.Millisecond }

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

func TestARequestWaitsWhileItsDatabaseMoves(t *testing.T) {
	b := newRouted(t, "b", says("b"), nil)
	a := newRouted(t, "a", says("a"), nil)
	nobody, moving := multidb.Owner{}, multidb.Owner{Node: "a", Self: true, Moving: true}
	toB := b.asOwner()
	toB.Moving = true
	a.sees(moving, nobody, toB, b.asOwner())
	if got := a.send("POST", "/acme/", "body"); got.status != 200 || got.body != "b got 4 bytes: body" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if s := a.router.Stats(); s != (RouterStats{PassedOn: 1}) {
		t.Errorf("%+v", s)
	}
}

// inBubble asks a Router without a network.
func inBubble(t *testing.T, h *RouteHandler, r *http.Request) (*httptest.ResponseRecorder, time.Duration) {
	t.Helper()
	begun, w := time.Now(), httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, time.Since(begun)
}

func TestARequestThatNobodyServesIsRefusedAfterTheWait(t *testing.T) {
	for _, owner := range []multidb.Owner{{}, {Node: "a", Self: true, Moving: true}, {Node: "b", URL: "http://b", Moving: true}} {
		synctest.Test(t, func(t *testing.T) {
			owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) { return owner, nil })
			h, err := Router(owners, byPath, nothing(t), RouterOptions{})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-time.After(time.Second)
				if n := h.Stats().Waiting; n != 1 {
					t.Errorf("%d are waiting", n)
				}
			}()
			w, took := inBubble(t, h, httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil))
			if w.Code != 503 || w.Header().Get("Retry-After") != "1" || took != 5*time.Second || !strings.Contains(w.Body.String(), `no node serves "acme"`) {
				t.Errorf("%d %v after %v: %s", w.Code, w.Header(), took, w.Body)
			}
			// Another node has waited already.
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil)
			r.Header.Set(hopsHeader, "1")
			r.Header.Set(waitHeader, "1500")
			if w, took := inBubble(t, h, r); w.Code != 503 || took != 1500*time.Millisecond {
				t.Errorf("%d after %v", w.Code, took)
			}
			r.Header.Set(waitHeader, "3600000")
			if w, took := inBubble(t, h, r); w.Code != 503 || took != 5*time.Second {
				t.Errorf("%d after %v", w.Code, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if w, took := inBubble(t, h, r.WithContext(ctx)); w.Code != 504 || took != time.Second {
				t.Errorf("with a context that ends: %d after %v", w.Code, took)
			}
			if s := h.Stats(); s != (RouterStats{Refused: 4}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestTheNodesTogetherWaitNoLongerThanOneWould(t *testing.T) {
	var waits []string
	synctest.Test(t, func(t *testing.T) {
		b := multidb.Owner{Node: "b", URL: "http://b"}
		begun := time.Now()
		owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) {
			if time.Since(begun) < time.Second {
				return multidb.Owner{}, nil
			}
			return b, nil
		})
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			waits = append(waits, r.Header.Get(waitHeader))
			return &http.Response{StatusCode: 421, Header: http.Header{notOwnerHeader: {reasonMoved}}, Body: http.NoBody}, nil
		})
		h, err := Router(owners, byPath, nothing(t), RouterOptions{Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		w, took := inBubble(t, h, httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil))
		// Nobody for a second, b says that it is not the owner, and once more a second later.
		if w.Code != 503 || took < 2*time.Second || took > 2500*time.Millisecond || len(waits) != 2 || waits[0] < "3800" || waits[0] > "4000" || waits[1] > "3000" {
			t.Errorf("%d after %v, with %q left: %s", w.Code, took, waits, w.Body)
		}
		// A node that answers late leaves no time for another try.
		waits = nil
		h.opt.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			<-time.After(10 * time.Second)
			return transport(r)
		})
		h.transport = h.opt.Transport
		if w, took := inBubble(t, h, httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil)); w.Code != 503 || took != 10*time.Second || len(waits) != 1 {
			t.Errorf("%d after %v, %d tries", w.Code, took, len(waits))
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestARequestIsSentOnceMoreIfTheNodeIsNotTheOwner(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	b := newRouted(t, "b", movedTo, nil)
	c := newRouted(t, "c", says("c"), nil)
	bare := httptest.NewServer(http.HandlerFunc(movedTo)) // a node without a Router
	defer bare.Close()
	a := newRouted(t, "a", movedTo, nil)
	for name, first := range map[string]multidb.Owner{"another node": b.asOwner(), "this node": {Node: "a", Self: true}, "without a Router": {Node: "d", URL: bare.URL}} {
		for _, body := range []any{"body", large, io.MultiReader(strings.NewReader(large))} {
			a.sees(first, c.asOwner())
			if got := a.send("POST", "/acme/", body); got.status != 200 || !strings.HasPrefix(got.body, "c got ") || strings.HasPrefix(got.body, "c got 0") || got.header.Get(notOwnerHeader) != "" {
				t.Errorf("%s: %d %v %s", name, got.status, got.header, got.body)
			}
		}
	}
	if s := a.router.Stats(); s.Retried != 9 || s.PassedOn != 15 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
	a.sees(multidb.Owner{Node: "a", Self: true}, b.asOwner())
	if got := a.send("POST", "/acme/", "body"); got.status != 503 || got.header.Get("Retry-After") != "1" || got.header.Get(notOwnerHeader) != "" || !strings.Contains(got.body, `"acme" moves`) {
		t.Errorf("never the owner: %d %v %s", got.status, got.header, got.body)
	}
	if n := b.served.Load(); n != 4 {
		t.Errorf("b was asked %d times", n)
	}
}

func TestTheSameNodeIsTriedOnceMoreIfNoOtherIsKnown(t *testing.T) {
	var calls atomic.Int64
	b := newRouted(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			movedTo(w, r)
			return
		}
		says("b")(w, r)
	}, nil)
	a := newRouted(t, "a", nothing(t), briefly)
	a.sees(b.asOwner())
	if got := a.send("POST", "/acme/", "body"); got.status != 200 || got.body != "b got 4 bytes: body" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestABodyIsSentAgainUpToTheLimitAndNotAboveIt(t *testing.T) {
	const limit = 70_000
	b := newRouted(t, "b", movedTo, nil)
	c := newRouted(t, "c", says("c"), nil)
	a := newRouted(t, "a", movedTo, func(o *RouterOptions) { o.MaxRetryBody = limit })
	for _, first := range []multidb.Owner{b.asOwner(), {Node: "a", Self: true}} {
		for size, status := range map[int]int{0: 200, 1: 200, limit - 1: 200, limit: 200, limit + 1: 503, 10 * limit: 503} {
			for _, known := range []bool{true, false} {
				var body any = strings.Repeat("x", size)
				if !known {
					body = io.MultiReader(strings.NewReader(body.(string)))
				}
				a.sees(first, c.asOwner())
				got := a.send("POST", "/acme/", body)
				if got.status != status || (status == 200) != strings.HasPrefix(got.body, fmt.Sprintf("c got %d bytes", size)) || (status == 503) != strings.Contains(got.body, "more than 70000 bytes") {
					t.Errorf("%d bytes, length known: %v: %d %s", size, known, got.status, got.body)
				}
			}
		}
	}
}

func TestALargerBodyIsPassedOnWholeButNotKept(t *testing.T) {
	c := newRouted(t, "c", says("c"), nil)
	a := newRouted(t, "a", says("a"), func(o *RouterOptions) { o.MaxRetryBody = -1 })
	for _, owner := range []multidb.Owner{c.asOwner(), {Node: "a", Self: true}} {
		a.sees(owner)
		if got := a.send("POST", "/acme/", io.MultiReader(strings.NewReader(strings.Repeat("y", 3<<20)))); got.status != 200 || got.body[1:] != " got 3145728 bytes: yyyyyyyyyyyyyyyyyyyy" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

func TestABodyAboveMaxBodyIsRefused(t *testing.T) {
	const limit = 70_000
	b := newRouted(t, "b", says("b"), nil)
	a := newRouted(t, "a", func(w http.ResponseWriter, r *http.Request) {
		var tooLarge *http.MaxBytesError
		if _, err := io.Copy(io.Discard, r.Body); errors.As(err, &tooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}, func(o *RouterOptions) { o.MaxBody = limit })
	for _, owner := range []multidb.Owner{b.asOwner(), {Node: "a", Self: true}} {
		a.sees(owner)
		for size, status := range map[int]int{limit: 200, limit + 1: 413} {
			for _, known := range []bool{true, false} {
				var body any = strings.Repeat("x", size)
				if !known {
					body = io.MultiReader(strings.NewReader(body.(string)))
				}
				served := b.served.Load()
				got := a.send("POST", "/acme/", body)
				if got.status != status {
					t.Errorf("%d bytes, length known: %v: %d %s", size, known, got.status, got.body)
				}
				if known && status == 413 && b.served.Load() != served {
					t.Error("the owner was asked")
				}
			}
		}
	}
}

func TestWhatTheHandlerHadSetBeforeItWasNotTheOwnerIsForgotten(t *testing.T) {
	c := newRouted(t, "c", says("c"), nil)
	a := newRouted(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Wrong", "1")
		r.Header.Set("X-Changed", "1")
		movedTo(w, r)
		w.WriteHeader(http.StatusTeapot)
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "wrong")
		_, _ = io.Copy(w, strings.NewReader("wrong"))
		if _, _, err := w.(http.Hijacker).Hijack(); err == nil {
			t.Error("the connection was given away")
		}
	}, nil)
	a.sees(multidb.Owner{Node: "a", Self: true}, c.asOwner())
	if got := a.send("GET", "/acme/", nil); got.status != 200 || got.header.Get("X-Wrong") != "" || got.body != "c got 0 bytes: " {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
}

func TestHalfAnAnswerIsNoAnswer(t *testing.T) {
	c := newRouted(t, "c", nothing(t), nil)
	a := newRouted(t, "a", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		movedTo(w, r)
	}, nil)
	a.sees(multidb.Owner{Node: "a", Self: true}, c.asOwner())
	if got, err := a.trySend("GET", "/acme/", nil); err == nil {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAHandlerWithoutARouterMarksItsAnswer(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	if NotOwner(w, r, nil) || NotOwner(w, r, errors.New("other")) || len(w.Header()) != 0 {
		t.Error("another error was answered")
	}
	if err := fmt.Errorf("acquire: %w", &multidb.NotOwnerError{ID: "acme", Owner: multidb.Owner{Node: "b", URL: "http://user:hush@b"}}); !NotOwner(w, r, err) {
		t.Error("it was not answered")
	}
	if w.Code != 421 || w.Header().Get(notOwnerHeader) != reasonMoved || strings.Contains(w.Body.String(), "hush") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// closedURL is one at which nobody listens.
func closedURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://user:hush@" + l.Addr().String()
}

func TestANodeThatCannotBeReachedIsPassedByOnce(t *testing.T) {
	away := multidb.Owner{Node: "b", URL: closedURL(t)}
	c := newRouted(t, "c", says("c"), nil)
	a := newRouted(t, "a", nothing(t), briefly)
	a.sees(away, c.asOwner())
	if got := a.send("POST", "/acme/", "body"); got.status != 200 || got.body != "c got 4 bytes: body" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if a.sees(away, c.asOwner()); a.send("POST", "/acme/", strings.Repeat("x", 2<<20)).status != 200 {
		t.Error("a large body of which nothing was read was not sent")
	}
	a.sees(away)
	got := a.send("POST", "/acme/", "body")
	if got.status != 502 || !strings.Contains(got.body, `node "b"`) || strings.Contains(got.body, "127.0.0.1") || strings.Contains(got.body, "hush@") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if log := a.log.String(); strings.Contains(log, "hush@") || strings.Count(log, "a node cannot be reached") != 4 {
		t.Errorf("the log: %s", log)
	}
	if s := a.router.Stats(); s != (RouterStats{PassedOn: 6, Retried: 3, Refused: 1}) {
		t.Errorf("%+v", s)
	}
	// The same behind one more node.
	b := newRouted(t, "b", nothing(t), briefly)
	b.sees(multidb.Owner{Node: "x", URL: away.URL})
	a.sees(b.asOwner())
	if got := a.send("GET", "/acme/", nil); got.status != 502 || !strings.Contains(got.body, `to which node "b" passes requests`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestANodeThatDoesNotAnswerInTimeIsNotAskedAgain(t *testing.T) {
	release := make(chan struct{})
	b := newRouted(t, "b", func(http.ResponseWriter, *http.Request) { <-release }, nil)
	defer close(release)
	transport := nodeTransport()
	transport.ResponseHeaderTimeout = 50 * time.Millisecond
	a := newRouted(t, "a", nothing(t), func(o *RouterOptions) { o.Transport = transport })
	a.sees(b.asOwner())
	if got := a.send("GET", "/acme/", nil); got.status != 504 || !strings.Contains(got.body, `node "b"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := b.served.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestARequestThatAHandlerMayHaveSeenIsNeverSentTwice(t *testing.T) {
	for _, c := range []struct{ method, body, key string }{
		{"GET", "", ""}, {"HEAD", "", ""}, {"POST", "body", ""}, {"POST", "", "k"}, {"DELETE", "", "k"}, {"PUT", "body", "k"},
	} {
		var calls atomic.Int64
		var lengths sync.Map
		b := newRouted(t, "b", func(w http.ResponseWriter, r *http.Request) {
			lengths.Store(r.ContentLength, true)
			if calls.Add(1) > 1 { // the connection is one that was used before
				panic(http.ErrAbortHandler)
			}
		}, nil)
		a := newRouted(t, "a", nothing(t), briefly)
		a.sees(b.asOwner())
		headers := []string{}
		if c.key != "" {
			headers = []string{"Idempotency-Key", c.key}
		}
		if got := a.send(c.method, "/acme/", c.body, headers...); got.status != 200 {
			t.Errorf("%v: %d %s", c, got.status, got.body)
		}
		got := a.send(c.method, "/acme/", c.body, headers...)
		if got.status != 502 || calls.Load() != 2 || (c.method != "HEAD" && !strings.Contains(got.body, "may have done")) {
			t.Errorf("%v: %d after %d calls: %s", c, got.status, calls.Load(), got.body)
		}
		lengths.Range(func(k, _ any) bool {
			if k != int64(len(c.body)) {
				t.Errorf("%v: the length was %v", c, k)
			}
			return true
		})
	}
}

func TestThreeNodesThatEachThinkAnotherIsTheOwnerGiveUp(t *testing.T) {
	a, b, c := newRouted(t, "a", nothing(t), briefly), newRouted(t, "b", nothing(t), briefly), newRouted(t, "c", nothing(t), briefly)
	a.sees(b.asOwner())
	b.sees(c.asOwner())
	c.sees(a.asOwner())
	got := a.send("POST", "/acme/", "body")
	if got.status != 503 || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, "each node says that another one serves it") || got.header.Get(notOwnerHeader) != "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	for n, want := range map[*routed]RouterStats{a: {PassedOn: 2, Retried: 1, Refused: 1}, b: {PassedOn: 2, Refused: 2}, c: {Refused: 2}} {
		if s := n.router.Stats(); s != want {
			t.Errorf("%s: %+v, want %+v", n.name, s, want)
		}
	}
	if !strings.Contains(c.log.String(), "in a circle") {
		t.Errorf("the log: %s", c.log.String())
	}
}

func TestARequestFollowsADatabaseThatHasMovedMeanwhile(t *testing.T) {
	a, b, c := newRouted(t, "a", nothing(t), nil), newRouted(t, "b", nothing(t), nil), newRouted(t, "c", nothing(t), nil)
	d := newRouted(t, "d", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get(hopsHeader)+r.Header.Get("X-Forwarded-For"))
	}, nil)
	a.sees(b.asOwner())
	b.sees(multidb.Owner{Node: "b", Self: true, Moving: true}, d.asOwner())
	if got := a.send("GET", "/acme/", nil); got.status != 200 || got.body != "2127.0.0.1, 127.0.0.1" {
		t.Errorf("%d %s", got.status, got.body)
	}
	// c knows nothing of the move yet, and later a does.
	a.sees(b.asOwner(), d.asOwner())
	b.sees(c.asOwner())
	c.sees(d.asOwner())
	if got := a.send("GET", "/acme/", nil); got.status != 200 || got.body != "1127.0.0.1" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestWhatOthersSayOfHopsCountsOnlyWithTheSecret(t *testing.T) {
	with := func(o *RouterOptions) { briefly(o); o.Secret, o.DropForwarded = secret, true }
	seen := func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hops=%q wait=%q secret=%q for=%q forwarded=%q port=%q", r.Header[hopsHeader], r.Header[waitHeader], r.Header[secretHeader],
			r.Header["X-Forwarded-For"], r.Header["Forwarded"], r.Header["X-Forwarded-Port"])
	}
	b := newRouted(t, "b", seen, with)
	a := newRouted(t, "a", seen, with)
	forged := []string{hopsHeader, "2", waitHeader, "0", "X-Forwarded-For", "192.0.2.9", "Forwarded", "for=x", "X-Forwarded-Port", "1"}
	const clean = `hops=[] wait=[] secret=[] for=[] forwarded=[] port=[]`
	for _, more := range [][]string{nil, {secretHeader, ""}, {secretHeader, secret + "x"}, {secretHeader, secret, secretHeader, secret}} {
		if got := a.send("GET", "/acme/", nil, append(more, forged...)...); got.body != clean {
			t.Errorf("%v: %s", more, got.body)
		}
	}
	a.sees(b.asOwner())
	const viaA = `hops=["1"] wait=[] secret=[] for=["127.0.0.1"] forwarded=[] port=[]`
	for _, more := range [][]string{nil, {"Connection", "multidb-hops, Multidb-Secret, Multidb-Wait, X-Forwarded-For"}, {hopsHeader, "-1"}} {
		if got := a.send("GET", "/acme/", nil, append(more, forged...)...); got.status != 200 || got.body != viaA {
			t.Errorf("%v: %d %s", more, got.status, got.body)
		}
	}
	// With the secret a request with two hops is not passed on.
	if got := a.send("GET", "/acme/", nil, append(forged, secretHeader, secret)...); got.status != 421 || got.header.Get(notOwnerHeader) != reasonCircle {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	// Without one everybody is believed, and two headers are nobody's.
	c := newRouted(t, "c", nothing(t), briefly)
	c.sees(b.asOwner())
	if got := c.send("GET", "/acme/", nil, hopsHeader, "2"); got.status != 421 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := c.send("GET", "/acme/", nil, hopsHeader, "2", hopsHeader, "2"); got.status != 200 || !strings.Contains(got.body, "hops=[]") {
		t.Errorf("two headers, to a node that knows the secret: %d %s", got.status, got.body)
	}
}

func TestTheSecretIsSentToNodesAlone(t *testing.T) {
	got := make(chan http.Header, 1)
	b := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer b.Close()
	a := newRouted(t, "a", nothing(t), func(o *RouterOptions) { o.Secret = secret })
	a.sees(multidb.Owner{Node: "b", URL: strings.Replace(b.URL, "//", "//user:hush@", 1)})
	if answer := a.send("GET", "/acme/", nil); answer.header.Get(secretHeader) != "" {
		t.Error("the client was told")
	}
	if h := <-got; h.Get(secretHeader) != secret || h.Get("Authorization") != "" {
		t.Errorf("got %v", h)
	}
}

func TestFlysProxyIsToldWhereToSendARequest(t *testing.T) {
	c := newRouted(t, "c", says("c"), nil)
	fly := func(o *RouterOptions) {
		briefly(o)
		o.FlyReplay = func(owner multidb.Owner) string {
			if owner.Node == "other" {
				return ""
			}
			return "instance=" + owner.Node
		}
	}
	a := newRouted(t, "a", movedTo, fly)
	a.sees(c.asOwner())
	got := a.send("POST", "/acme/", "body")
	if got.status != 409 || got.header.Get("fly-replay") != "instance=c;state=multidb-1" || c.served.Load() != 0 {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := a.send("POST", "/acme/", nil, "Fly-Replay-Src", "instance=b;region=ams;t=1;state=multidb-1"); got.header.Get("fly-replay") != "instance=c;state=multidb-2" {
		t.Errorf("once more: %d %v", got.status, got.header)
	}
	if got := a.send("POST", "/acme/", nil, "Fly-Replay-Src", "instance=b;state=multidb-2"); got.status != 503 || got.header.Get("Retry-After") != "1" || got.header.Get("fly-replay") != "" {
		t.Errorf("in a circle: %d %v", got.status, got.header)
	}
	a.sees(multidb.Owner{Node: "a", Self: true}, c.asOwner())
	if got := a.send("POST", "/acme/", "body", "Fly-Replay-Src", "state=multidb-1"); got.status != 409 || got.header.Get("fly-replay") != "instance=c;state=multidb-2" {
		t.Errorf("a handler that is not the owner: %d %v %s", got.status, got.header, got.body)
	}
	// What Fly's proxy does not send again, and a node that it does not know.
	a.sees(c.asOwner())
	for size, status := range map[int]int{flyMaxBody: 409, flyMaxBody + 1: 200} {
		if got := a.send("POST", "/acme/", strings.Repeat("x", size)); got.status != status {
			t.Errorf("%d bytes: %d %s", size, got.status, got.body)
		}
	}
	a.sees(multidb.Owner{Node: "other", URL: c.url})
	if got := a.send("POST", "/acme/", "body"); got.status != 200 || got.body != "c got 4 bytes: body" {
		t.Errorf("over HTTP: %d %s", got.status, got.body)
	}
}

func TestANodeWithoutAUsableURLIsNamed(t *testing.T) {
	a := newRouted(t, "a", nothing(t), nil)
	for u, status := range map[string]int{"": 503, "ftp://user:hush@b": 502, "b:8080": 502, "http://": 502, "http://b:hush\x00": 502} {
		a.sees(multidb.Owner{Node: "b", URL: u})
		if got := a.send("GET", "/acme/", nil); got.status != status || !strings.Contains(got.body, `node "b"`) || strings.Contains(got.body, "hush@") {
			t.Errorf("%q: %d %s", u, got.status, got.body)
		}
	}
	if strings.Contains(a.log.String(), "hush") {
		t.Errorf("the log: %s", a.log.String())
	}
}

func TestANodeMayHaveAPathBeforeItsOwn(t *testing.T) {
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }))
	defer b.Close()
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(multidb.Owner{Node: "b", URL: b.URL + "/base/?x=1"})
	if got := a.send("GET", "/acme/x%2Fy?q=1", nil); got.body != "/base/acme/x%2Fy?q=1" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestANodeThatDoesNotKnowTheOwnerSaysWhetherToTryAgain(t *testing.T) {
	for err, status := range map[error]int{multidb.ErrClosed: 503, multidb.ErrNotStarted: 503, errors.New("at http://user:hush@h"): 500} {
		var log bytes.Buffer
		owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) {
			return multidb.Owner{}, fmt.Errorf("owner: %w", err)
		})
		h, wrong := Router(owners, byPath, nothing(t), RouterOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if wrong != nil {
			t.Fatal(wrong)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil))
		if w.Code != status || strings.Contains(w.Body.String(), "hush@") || (w.Header().Get("Retry-After") == "1") != (status == 503) || (log.Len() > 0) != (status == 500) {
			t.Errorf("%v: %d %v %s %s", err, w.Code, w.Header(), w.Body, log.String())
		}
	}
}

func TestWrongOptionsOfARouterAreNamedTogether(t *testing.T) {
	_, err := Router(nil, nil, nil, RouterOptions{Wait: -1, MaxBody: -1, Secret: "a b", DropForwarded: true})
	for _, want := range []string{"Router needs a Manager", "says which database", "needs the handler", "Wait is", "MaxBody is", "Secret has 3", "Secret has a space"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) { return multidb.Owner{}, nil })
	if _, err := Router(owners, byPath, http.NotFoundHandler(), RouterOptions{DropForwarded: true}); err == nil || !strings.Contains(err.Error(), "needs a Secret") {
		t.Errorf("got %v", err)
	}
	h, err := Router(owners, byPath, http.NotFoundHandler(), RouterOptions{})
	if err != nil || h.opt.Wait != 5*time.Second || h.opt.MaxRetryBody != 1<<20 || h.opt.Transport.(*http.Transport).Proxy != nil {
		t.Errorf("%+v %v", h, err)
	}
}
