package multidbhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

const token = "0123456789abcdef-token"

// private is every path that tells something.
var private = []string{"/", "/databases", "/database?id=acme/orders", "/confirm?verb=sync&id=acme/orders", "/metrics",
	"/api/v1/stats", "/api/v1/databases", "/api/v1/database?id=acme/orders", "/api/v1/restore-points?id=acme/orders", "/api/v1/events", "/api/v1/nothing", "/nothing"}

func TestWithoutTheTokenNothingIsTold(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, func(o *Options) {
		o.Token, o.Verbs = token, []Verb{VerbSync}
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("metrics were asked") })
	})
	with := func(r *http.Request, credentials string) *http.Request {
		if credentials != "" {
			r.Header.Set("Authorization", credentials)
		}
		return r
	}
	for _, path := range private {
		for _, credentials := range []string{"", "Bearer ", "Bearer wrong", "Basic " + token, token, "Bearer " + token + "x", "Bearer " + token[1:]} {
			a := s.send(with(s.request("GET", path, ""), credentials))
			if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(a.body, "example") {
				t.Errorf("%s with %q: %d %s", path, credentials, a.status, a.body)
			}
			if wrong := strings.Contains(a.body, "the token is wrong"); strings.HasPrefix(path, "/api/") && wrong != (credentials != "") {
				t.Errorf("%s with %q is told %s", path, credentials, a.body)
			}
		}
	}
	for _, path := range []string{"/act", "/logout", "/api/v1/sync?id=acme/orders"} {
		if a := s.send(s.request("POST", path, "")); a.status != 401 {
			t.Errorf("POST %s: %d", path, a.status)
		}
	}
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 200, "/login": 200, "/static/page.css": 200} {
		if a := s.get(path); a.status != status || strings.Contains(a.body, "acme") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := s.send(with(s.request("GET", "/api/v1/stats", ""), "bearer "+token)); a.status != 200 {
		t.Errorf("with the token: %d %s", a.status, a.body)
	}
}

func TestThePageKeepsWhoHasTypedTheTokenUntilTheLogout(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, func(o *Options) { o.Token = token })
	form := s.get("/database?id=acme/orders")
	if form.status != 401 || !strings.Contains(form.body, `name="to" value="/database?id=acme/orders"`) {
		t.Fatalf("%d %s", form.status, form.body)
	}
	if a := s.form("/login", "", map[string]string{"token": "wrong", "to": "/"}); a.status != 401 || strings.Contains(a.body, "wrong") {
		t.Errorf("the wrong token: %d %s", a.status, a.body)
	}
	if a := s.form("/login", "https://evil.example", map[string]string{"token": token, "to": "/"}); a.status != 403 {
		t.Errorf("from another site: %d", a.status)
	}
	a := s.form("/login", "", map[string]string{"token": token, "to": "/database?id=acme/orders"})
	if a.status != 200 || a.at != "/database?id=acme/orders" || !strings.Contains(a.body, "acme/orders") {
		t.Fatalf("the right one: %d at %s", a.status, a.at)
	}
	if a := s.get("/api/v1/stats"); a.status != 200 {
		t.Errorf("then: %d", a.status)
	}
	session := s.client.Jar.Cookies(s.request("GET", "/", "").URL)[0].Value
	if a := s.form("/logout", "", nil); a.at != "/login" {
		t.Errorf("logout leads to %s", a.at)
	}
	r := s.request("GET", "/api/v1/stats", "")
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: session})
	if a := s.send(r); a.status != 401 {
		t.Errorf("with the cookie of before the logout: %d", a.status)
	}
}

func TestTheCookieIsForThisServerAlone(t *testing.T) {
	for _, c := range []struct {
		base, origin string
		secure       bool
	}{{"", "http://localhost", false}, {"/ops", "https://localhost", true}} {
		s := newServer(t, unstarted(t), Options{Token: token, Base: c.base})
		r := httptest.NewRequestWithContext(t.Context(), "POST", c.base+"/login", strings.NewReader("token="+token))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", c.origin)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		cookies := w.Result().Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%d: %v", w.Code, cookies)
		}
		k := cookies[0]
		if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Secure != c.secure || k.Path != c.base+"/" || strings.Contains(k.Value, token) || len(k.Value) < 20 {
			t.Errorf("got %v", k)
		}
		if to := w.Header().Get("Location"); to != c.base+"/" {
			t.Errorf("to %q", to)
		}
	}
}

func TestAfterTheLoginOneStaysHere(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Token: token, Base: "/ops"})
	for to, want := range map[string]string{
		"/ops/database?id=a%2Fb": "/ops/database?id=a%2Fb", "": "/ops/", "/": "/ops/", "/other": "/ops/", "//evil.example": "/ops/",
		"/ops//evil.example": "/ops/", "https://evil.example/ops/": "/ops/", "/ops/\\evil.example": "/ops/", "javascript:alert(1)": "/ops/", "/ops/\r\nX: y": "/ops/",
	} {
		if got := s.ownURL(to); got != want {
			t.Errorf("%q leads to %q, want %q", to, got, want)
		}
	}
}

func TestASessionEndsAndThereAreNotTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sessions
		first := s.begin(time.Now())
		<-time.After(time.Second)
		second := s.begin(time.Now())
		for range maxSessions - 1 {
			<-time.After(time.Second)
			s.begin(time.Now())
		}
		if s.has(first) || !s.has(second) || len(s.until) != maxSessions {
			t.Errorf("%d sessions; the first: %v, the second: %v", len(s.until), s.has(first), s.has(second))
		}
		<-time.After(sessionLength)
		if s.has(second) || s.has("") {
			t.Error("one does not end")
		}
		if s.begin(time.Now()); len(s.until) != 1 {
			t.Errorf("%d are kept", len(s.until))
		}
	})
}

func TestWithoutATokenOnlyThisMachineIsServed(t *testing.T) {
	tcp := func(addr string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(addr), Port: 9460} }
	for _, c := range []struct {
		opt    Options
		local  net.Addr
		status int
	}{
		{Options{}, tcp("127.0.0.1"), 200},
		{Options{}, tcp("::1"), 200},
		{Options{}, &net.UnixAddr{}, 200},
		{Options{}, tcp("10.0.0.7"), 403},
		{Options{}, tcp("2001:db8::1"), 403},
		{Options{}, nil, 403},
		{Options{Authenticated: true}, tcp("10.0.0.7"), 200},
		{Options{Token: token}, tcp("127.0.0.1"), 401},
	} {
		s := newServer(t, unstarted(t), c.opt)
		for _, path := range []string{"/", "/api/v1/stats"} {
			ctx := t.Context()
			if c.local != nil {
				ctx = context.WithValue(ctx, http.LocalAddrContextKey, c.local)
			}
			r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
			r.Host = "10.0.0.7:9460"
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != c.status || c.status == 403 && !strings.Contains(w.Body.String(), "Options.Token") {
				t.Errorf("%+v by %v: %s: %d %s", c.opt, c.local, path, w.Code, w.Body)
			}
		}
	}
}

func TestANameThatIsNotOursIsRefused(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Hosts: []string{"Ops.example.com"}, Authenticated: true})
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:9460": 200, "127.0.0.1:9460": 200, "[::1]:9460": 200, "10.2.3.4": 200, "[2001:db8::1]": 200, "ops.EXAMPLE.com:80": 200,
		"evil.example": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "ops.example.com.evil.example:80": 403, "": 403, "0x7f.1": 403,
	} {
		for _, path := range []string{"/", "/api/v1/stats", "/login", "/static/page.css"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if (w.Code == 403) != (status == 403) {
				t.Errorf("%s at %q: %d", path, host, w.Code)
			}
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil) // which load balancers ask, by any name
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if told := strings.Contains(w.Body.String(), "not started"); w.Code != 503 || told != (status == 200) {
			t.Errorf("readyz at %q: %d %s", host, w.Code, w.Body)
		}
	}
}

func TestAnotherSiteCanDoNothing(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, allVerbs(t.TempDir()))
	form := fields(t, s.get(s.server.confirmURL(VerbSync, string(orders), "")))
	for _, header := range [][2]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:1"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
	} {
		for path, kind := range map[string]string{"/act": "application/x-www-form-urlencoded", "/api/v1/sync?id=acme/orders": "application/json"} {
			body := `{"confirm":"acme/orders"}`
			if path == "/act" {
				body = "verb=sync&id=acme%2Forders&confirm=" + form["confirm"]
			}
			r := s.request("POST", path, body)
			r.Header.Set("Content-Type", kind)
			r.Header.Set(header[0], header[1])
			if a := s.send(r); a.status != 403 || !strings.Contains(a.body, "another site") {
				t.Errorf("%s with %v: %d %s", path, header, a.status, a.body)
			}
		}
	}
	if len(s.server.actions.outcomes) > 0 {
		t.Errorf("done: %v", s.server.actions.outcomes)
	}
	if a := s.form("/act", "", form); a.status != 200 || len(s.server.actions.outcomes) != 1 {
		t.Errorf("from the page itself: %d", a.status)
	}
}

func TestEveryAnswerHasTheHeadersThatBrowsersAreHeldBy(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, nil)
	for _, path := range append([]string{"/healthz", "/readyz", "/login", "/static/page.css"}, private...) {
		h := s.get(path).header
		for name, value := range headers {
			if got := h.Get(name); got != value && (name != "Cache-Control" || !strings.HasPrefix(path, "/static/")) {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: %s", path, csp)
		}
	}
}

func TestBelowABaseEverythingIsThere(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, func(o *Options) { o.Base, o.Verbs = "/ops/multidb", []Verb{VerbSync} })
	for path, status := range map[string]int{"/": 404, "/ops/multidb/": 200, "/ops/multidb/databases": 200, "/ops/multidb/healthz": 200, "/ops/multidb/api/v1/stats": 200, "/ops/multidbx/": 404} {
		if a := s.get(path); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
	page := s.get("/ops/multidb/database?id=acme/orders")
	for _, attr := range []string{`href="/`, `src="/`, `action="/`} {
		for _, after := range strings.Split(page.body, attr)[1:] {
			if !strings.HasPrefix(after, "ops/multidb/") {
				t.Errorf("%s%.40s leads out of the base", attr, after)
			}
		}
	}
	form := fields(t, s.get("/ops/multidb/confirm?verb=sync&id=acme/orders"))
	if a := s.form("/ops/multidb/act", "", form); a.status != 200 || a.at != "/ops/multidb/database?id=acme%2Forders" {
		t.Errorf("%d at %s", a.status, a.at)
	}
}

func TestReadyzSaysWhatIsWrongToThoseWhoMayRead(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, nil)
	if r := read[readyJSON](s, "/readyz", 200); !r.Ready || len(r.Reasons) > 0 {
		t.Errorf("got %+v", r)
	}
	synctestFree := func(path string, status int, ready bool, says string) {
		t.Helper()
		w := ask(t, s.server, "GET", path)
		var r readyJSON
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != status || r.Ready != ready || says != "" && !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	s.server.opt.Authenticated = true
	s.server.health.at, s.server.health.ok = time.Now().Add(time.Hour), false
	s.server.health.worst = []multidb.Status{{Database: multidb.Database{ID: orders}, Err: &multidb.Error{Op: "sync", ID: orders, Err: errors.New("sftp://me:hunter2@host is away")}}}
	synctestFree("/readyz", 503, false, "sftp://***@host is away")
	synctestFree("/readyz?started", 200, true, "")
	s.server.opt.Authenticated, s.server.opt.Token = false, token
	if w := ask(t, s.server, "GET", "/readyz"); w.Code != 503 || strings.Contains(w.Body.String(), "reasons") {
		t.Errorf("to a stranger: %d %s", w.Code, w.Body)
	}
	s.server.opt.Token = ""
	s.server.opt.Authenticated = true
	if err := s.m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctestFree("/readyz?started", 503, false, "closed")
	if a := s.get("/healthz"); a.status != 200 || a.body != "ok\n" {
		t.Errorf("healthz: %d %q", a.status, a.body)
	}
	w := ask(t, newServer(t, unstarted(t), Options{Authenticated: true}), "GET", "/readyz")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "not started") {
		t.Errorf("before the start: %d %s", w.Code, w.Body)
	}
}

func TestHealthIsAskedForOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, unstarted(t), Options{})
		s.healthy()
		first := s.health.at
		<-time.After(healthFor - time.Millisecond)
		if s.healthy(); s.health.at != first {
			t.Error("asked again within a second")
		}
		<-time.After(time.Millisecond)
		if s.healthy(); s.health.at == first {
			t.Error("not asked again after a second")
		}
	})
}

func TestWhatMayBeASecretIsHidden(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Token: token})
	for text, want := range map[string]string{
		"dial sftp://user:hunter2@host/x: refused":              "dial sftp://***@host/x: refused",
		"postgres://hunter2@h/db and redis://:hunter2@h":        "postgres://***@h/db and redis://***@h",
		`Get "https://b/x?X-Amz-Signature=hunter2&a=1": EOF`:    `Get "https://b/x?X-Amz-Signature=***&a=1": EOF`,
		"https://b/x?access_token=hunter2 and ?secret=hunter2":  "https://b/x?access_token=*** and ?secret=***",
		"the token " + token + " is wrong":                      "the token *** is wrong",
		"mail to a@b.example, s3://bucket/a@b/c, at 10:20@noon": "mail to a@b.example, s3://bucket/a@b/c, at 10:20@noon",
	} {
		if got := s.clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestANodeThatTakesNoPartIsNotReadyForALoadBalancer(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, nil)
	s.server.opt.Authenticated = true
	var st multidb.ClusterStatus
	s.server.nodes = func() multidb.ClusterStatus { return st }
	for _, c := range []struct {
		name   string
		is     multidb.ClusterStatus
		status int
		says   string
	}{
		{"a node", multidb.ClusterStatus{Map: 7, Joined: true}, 200, `"ready"`},
		{"one that drains", multidb.ClusterStatus{Map: 7, Joined: true, Draining: true}, 503, "drains"},
		{"one that was fenced", multidb.ClusterStatus{Map: 7, Err: errors.New("sealed by b")}, 503, "sealed by b"},
		{"one that has not joined yet", multidb.ClusterStatus{Err: errors.New("the bucket is away")}, 503, "the bucket is away"},
		{"one that could not do something just now", multidb.ClusterStatus{Map: 7, Joined: true, Err: errors.New("a move was put off")}, 200, `"ready"`},
		{"no node", multidb.ClusterStatus{}, 200, `"ready"`},
	} {
		st = c.is
		for _, path := range []string{"/readyz", "/readyz?started"} {
			if w := ask(t, s.server, "GET", path); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s, %s: %d %s", c.name, path, w.Code, w.Body)
			}
		}
	}
}
