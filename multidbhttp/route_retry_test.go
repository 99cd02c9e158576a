package multidbhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

// movedTo is a handler whose tenant has just gone.
func movedTo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if !NotOwner(w, r, &multidb.NotOwnerError{ID: "acme"}) {
		panic("it was no ErrNotOwner")
	}
}

// briefly makes the tests of requests that fail short, and leaves time enough on a machine that has much to do.
func briefly(o *RouterOptions) { o.Wait = time.Second }

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
		// Nobody for a second, and then b says that it is not the owner, until nothing is left of the wait.
		if w.Code != 503 || took != 5*time.Second || len(waits) < 4 || len(waits) > 8 || waits[0] < "3800" || waits[0] > "4000" || !slices.IsSortedFunc(waits, func(a, b string) int {
			return strings.Compare(fmt.Sprintf("%5s", b), fmt.Sprintf("%5s", a))
		}) {
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

func TestARequestIsSentAgainIfTheNodeIsNotTheOwner(t *testing.T) {
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
	a.router.opt.Wait = time.Second
	a.sees(multidb.Owner{Node: "a", Self: true}, b.asOwner())
	if got := a.send("POST", "/acme/", "body"); got.status != 503 || got.header.Get("Retry-After") != "1" || got.header.Get(notOwnerHeader) != "" || !strings.Contains(got.body, `"acme" moves`) {
		t.Errorf("never the owner: %d %v %s", got.status, got.header, got.body)
	}
	if n := b.served.Load(); n < 4 || n > 8 { // 3 times before
		t.Errorf("b was asked %d times", n)
	}
}

func TestANodeThatIsNotTheOwnerNeedNotHaveReadTheBody(t *testing.T) {
	body := strings.Repeat("x", defaultMaxRetry)
	unread := func(w http.ResponseWriter, r *http.Request) { NotOwner(w, r, multidb.ErrNotOwner) }
	b := newRouted(t, "b", unread, nil)
	bare := httptest.NewServer(http.HandlerFunc(unread))
	defer bare.Close()
	c := newRouted(t, "c", says("c"), nil)
	a := newRouted(t, "a", nothing(t), nil)
	for _, owner := range []multidb.Owner{b.asOwner(), {Node: "d", URL: bare.URL}} {
		for i := range 5 {
			a.sees(owner, c.asOwner())
			if got := a.send("POST", "/acme/", body); got.status != 200 || got.body[:19] != "c got 1048576 bytes" {
				t.Fatalf("%s, %d: %d %s", owner.Node, i, got.status, got.body)
			}
		}
	}
}

func TestTheSameNodeIsTriedAgainIfNoOtherIsKnown(t *testing.T) {
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

// network has requests to http://NAME/ answered by handlers in this process, so that nodes fit into a bubble.
type network map[string]http.Handler

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	n[r.URL.Host].ServeHTTP(w, r)
	return w.Result(), nil
}

// TestARequestWaitsUntilTheNewOwnerKnowsThatItIsOne: the map that the new owner has may be older than that
// of the node that has given the database to it.
func TestARequestWaitsUntilTheNewOwnerKnowsThatItIsOne(t *testing.T) {
	for _, late := range []time.Duration{100 * time.Millisecond, 1300 * time.Millisecond, 4 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			begun, net := time.Now(), network{}
			var log lockedBuffer
			node := func(owner func() multidb.Owner, handler http.HandlerFunc) *RouteHandler {
				owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) { return owner(), nil })
				h, err := Router(owners, byPath, handler, RouterOptions{Transport: net, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			a := node(func() multidb.Owner { return multidb.Owner{Node: "b", URL: "http://b"} }, nothing(t))
			b := node(func() multidb.Owner {
				if time.Since(begun) < late {
					return multidb.Owner{Node: "a", URL: "http://a"}
				}
				return multidb.Owner{Node: "b", Self: true}
			}, says("b"))
			net["a"], net["b"] = a, b
			w, took := inBubble(t, a, httptest.NewRequestWithContext(t.Context(), "POST", "/acme/", strings.NewReader("body")))
			if late > defaultWait {
				if w.Code != 503 || took != defaultWait || !strings.Contains(log.String(), "in a circle") {
					t.Errorf("%d after %v: %s\n%s", w.Code, took, w.Body, log.String())
				}
				return
			}
			if w.Code != 200 || w.Body.String() != "b got 4 bytes: body" || took > late+sameOwnerPause || log.String() != "" {
				t.Errorf("%d after %v, where b knew after %v: %s\n%s", w.Code, took, late, w.Body, log.String())
			}
			if s := a.Stats(); s.Retried != 1 {
				t.Errorf("%+v", s)
			}
		})
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
	c := newRouted(t, "c", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Changed") != "" {
			t.Error("the handler's change of the request came along")
		}
		says("c")(w, r)
	}, nil)
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
	if w.Code != 421 || w.Header().Get(notOwnerHeader) != reasonMoved || w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), "hush") {
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

func TestABodyThatEndsEarlyIsNoWholeOneAtTheOwner(t *testing.T) {
	ended := make(chan error, 1)
	b := newRouted(t, "b", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}, nil)
	a := newRouted(t, "a", nothing(t), nil)
	a.sees(b.asOwner())
	for _, request := range []string{"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 10\r\n\r\nhello"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /acme/ HTTP/1.1\r\nHost: x\r\n"+request)
		_ = conn.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v %v", resp, err)
		}
		if err := <-ended; err == nil {
			t.Error("the owner has read a whole body")
		}
		_ = conn.Close()
	}
}

func TestTheStatusSaysWhatHasBecomeOfARequest(t *testing.T) {
	late := os.NewSyscallError("read", syscall.ETIMEDOUT)
	for _, c := range []struct {
		err           error
		status, tries int
		text          string
	}{
		{io.ErrUnexpectedEOF, 502, 1, "may have done"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, 502, 1, "may have done"},
		{&net.OpError{Op: "read", Err: late}, 504, 1, "may have done"},
		{fmt.Errorf("no answer: %w", context.DeadlineExceeded), 504, 1, "may have done"},
		{&net.OpError{Op: "dial", Err: late}, 502, 2, "cannot be reached"},
		{fmt.Errorf("no connection: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), 502, 2, "cannot be reached"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) {
				return multidb.Owner{Node: "b", URL: "http://b"}, nil
			})
			h, err := Router(owners, byPath, nothing(t), RouterOptions{Logger: slog.New(slog.DiscardHandler), Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				tries++
				return nil, c.err
			})})
			if err != nil {
				t.Fatal(err)
			}
			w, took := inBubble(t, h, httptest.NewRequestWithContext(t.Context(), "GET", "/acme/", nil))
			if w.Code != c.status || tries != c.tries || !strings.Contains(w.Body.String(), c.text) || took > time.Duration(tries-1)*sameOwnerPause {
				t.Errorf("%v: %d after %d tries and %v: %s", c.err, w.Code, tries, took, w.Body)
			}
		})
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
