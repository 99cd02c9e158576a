package multidbhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const secret = "0123456789abcdef-secret"

func TestThreeNodesThatEachThinkAnotherIsTheOwnerGiveUp(t *testing.T) {
	a, b, c := newRouted(t, "a", nothing(t), briefly), newRouted(t, "b", nothing(t), briefly), newRouted(t, "c", nothing(t), briefly)
	a.sees(b.asOwner())
	b.sees(c.asOwner())
	c.sees(a.asOwner())
	got := a.send("POST", "/acme/", "body")
	if got.status != 503 || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, "each node says that another one serves it") || got.header.Get(notOwnerHeader) != "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	tries := a.router.Stats().PassedOn
	if tries < 2 || tries > 5 { // in a second
		t.Errorf("%d tries", tries)
	}
	for n, want := range map[*routed]RouterStats{a: {PassedOn: tries, Retried: 1, Refused: 1}, b: {PassedOn: tries, Refused: tries}, c: {Refused: tries}} {
		if s := n.router.Stats(); s != want {
			t.Errorf("%s: %+v, want %+v", n.name, s, want)
		}
	}
	if strings.Count(a.log.String(), "in a circle") != 1 || strings.Contains(b.log.String()+c.log.String(), "in a circle") {
		t.Errorf("the logs: %s\n%s\n%s", a.log.String(), b.log.String(), c.log.String())
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

func TestARequestDoesNotGoRoundBetweenNodesWithDifferentSecrets(t *testing.T) {
	for _, secrets := range [][2]string{{secret, secret + "x"}, {secret, ""}, {"", secret}} {
		with := func(secret string) func(*RouterOptions) {
			return func(o *RouterOptions) { briefly(o); o.Secret = secret }
		}
		a, b := newRouted(t, "a", nothing(t), with(secrets[0])), newRouted(t, "b", nothing(t), with(secrets[1]))
		a.sees(b.asOwner())
		b.sees(a.asOwner())
		got := a.send("GET", "/acme/", nil)
		if got.status != 503 || !strings.Contains(got.body, "each node says") || got.header.Get(notOwnerHeader) != "" {
			t.Errorf("%q: %d %s", secrets, got.status, got.body)
		}
		if n := a.router.Stats().PassedOn + b.router.Stats().PassedOn; n > 3 {
			t.Errorf("%q: passed on %d times", secrets, n)
		}
		// If one of them is the owner after all, it serves the request.
		a.sees(b.asOwner(), multidb.Owner{Node: "a", Self: true})
		a.router.next = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get(viaHeader) != "" {
				t.Error("the handler sees the way")
			}
		})
		if got := a.send("GET", "/acme/", nil); got.status != 200 {
			t.Errorf("%q: %d %s", secrets, got.status, got.body)
		}
	}
}

func TestWhatALoadBalancerSaysOfTheClientIsPassedOn(t *testing.T) {
	var got http.Header
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
	})
	owners := ownersFunc(func(context.Context, multidb.ID) (multidb.Owner, error) {
		return multidb.Owner{Node: "b", URL: "http://b"}, nil
	})
	h, err := Router(owners, byPath, nothing(t), RouterOptions{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	for from, last := range map[string]string{"192.0.2.7:1234": ", 192.0.2.7", "[2001:db8::7]:1234": ", 2001:db8::7", "@": ""} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "https://www.example/acme/", nil)
		r.RemoteAddr = from
		h.ServeHTTP(httptest.NewRecorder(), r)
		if f := got["X-Forwarded-For"]; strings.Join(f, "|") != strings.TrimPrefix(last, ", ") || got.Get("X-Forwarded-Proto") != "https" || got.Get("X-Forwarded-Host") != "www.example" {
			t.Errorf("from %s: %v", from, got)
		}
		r.Header["X-Forwarded-For"] = []string{"198.51.100.1", "198.51.100.2"}
		r.Header.Set("Forwarded", "for=198.51.100.1")
		r.Header.Set("X-Forwarded-Proto", "http")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got.Get("X-Forwarded-For") != "198.51.100.1, 198.51.100.2"+last || got.Get("Forwarded") != "for=198.51.100.1" || got.Get("X-Forwarded-Proto") != "http" {
			t.Errorf("from %s, behind two proxies: %v", from, got)
		}
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
