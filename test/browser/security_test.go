//go:build browser

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbtest"
)

// crowd is a fleet of n databases, all of them empty, without a replica.
func crowd(t *testing.T, n int) *site {
	t.Helper()
	s := &site{t: t, events: &multidbhttp.Events{}}
	dir := t.TempDir()
	for i := range n {
		path := place(dir, i)
		if i%1000 == 0 {
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := multidb.New(multidb.WithStateDir(t.TempDir()), multidb.WithObserver(s.events.Observe), multidb.WithDiscoverer(listed{dir, n}))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s.m = m
	s.publish(multidbhttp.Options{})
	return s
}

// place is where the file of a database is: a thousand to a directory.
func place(dir string, i int) string { return fmt.Sprintf("%s/%03d/tenant-%06d.db", dir, i/1000, i) }

// listed is a Discoverer of n databases.
type listed struct {
	dir string
	n   int
}

func (l listed) Discover(context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		for i := range l.n {
			id := fmt.Sprintf("tenant-%06d", i)
			if !yield(multidb.Database{ID: multidb.ID(id), Path: place(l.dir, i), ModTime: time.Unix(1, 0)}, nil) {
				return
			}
		}
	}
}

func TestATenantsNameDoesNothing(t *testing.T) {
	s := serve(t, everyVerb(t), evil)
	for _, id := range evil[:3] {
		s.fail(id)
	}
	b := open(t, 1280) // whose end fails the test for any dialog, request elsewhere, or violated policy
	for _, address := range []string{s.url + "/", s.url + "/databases"} {
		b.visit(address)
		if n := eval[int](b, `document.querySelectorAll("main img, main script, svg[onload], [onerror], [onfocus]").length`); n != 0 {
			t.Errorf("%s: %d elements of a tenant's making", address, n)
		}
	}
	links := eval[[]string](b, `[...document.querySelectorAll("table.list tbody a")].map(a => a.href)`)
	if len(links) != len(evil) {
		t.Fatalf("%d of %d are listed", len(links), len(evil))
	}
	found := map[string]bool{}
	for _, link := range links {
		u, err := url.Parse(link)
		if err != nil || !strings.HasPrefix(link, s.url+"/database?id=") {
			t.Fatalf("%s: %v", link, err)
		}
		id := u.Query().Get("id")
		found[id] = true
		if code := b.visit(link); code != 200 {
			t.Errorf("%q: status %d", id, code)
		}
		b.want("On this machine")
		if b.visit(s.url+"/confirm?"+url.Values{"verb": {"sync"}, "id": {id}}.Encode()) == 200 && !strings.HasPrefix(id, "<img") && id != evil[1] && id != evil[2] {
			b.arrives(chromedp.Click(chromedp.CSS("form.order button")))
			b.want("Sync now: done")
		}
		if n := eval[int](b, `document.querySelectorAll("main img, main script, svg[onload], [onerror], [onfocus]").length`); n != 0 {
			t.Errorf("%q: %d elements of its making", id, n)
		}
	}
	for _, id := range evil {
		if !found[id] {
			t.Errorf("no link leads to %q", id)
		}
	}
	b.visit(s.url + "/databases?" + url.Values{"q": {evil[1]}}.Encode())
	b.want("1 of 9 databases")
	if q := eval[string](b, `document.querySelector("#q").value`); q != evil[1] {
		t.Errorf("what was searched for is shown as %q", q)
	}
	b.visit(s.tenant(evil[6]))
	b.want(`\u202e`) // it is seen, and turns nothing
}

// confirmation fetches the page that confirms a verb, as another program could, and returns
// the fields of its form.
func confirmation(t *testing.T, address string) url.Values {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`type="hidden" name="(\w+)" value="([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		form.Set(m[1], m[2])
	}
	if form.Get("confirm") == "" {
		t.Fatalf("no confirmation in %s", text)
	}
	return form
}

// jsonOf is a form as an object of a script.
func jsonOf(form url.Values) string {
	flat := map[string]string{}
	for name := range form {
		flat[name] = form.Get(name)
	}
	text, _ := json.Marshal(flat) // of strings, which never fails
	return string(text)
}

func TestAnotherSitesPageCanDoNothing(t *testing.T) {
	s := serve(t, everyVerb(t), tenants[:1])
	// It is given more than it could get: a form whose confirmation is good.
	form := confirmation(t, s.url+"/confirm?verb=restore&id=acme/billing")
	var page strings.Builder
	fmt.Fprintf(&page, `<!doctype html><title>lure</title><form method="post" action="%s/act">`, s.url)
	for name := range form {
		fmt.Fprintf(&page, `<input type="hidden" name="%s" value="%s">`, name, form.Get(name))
	}
	fmt.Fprintf(&page, `<button>win</button></form><iframe src="%s/"></iframe>`, s.url)
	lure := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page.String())
	}))
	defer lure.Close()
	at := "http://evil.example" + lure.URL[strings.LastIndex(lure.URL, ":"):]

	b := open(t, 1280)
	b.but(func(string) bool { return true }) // refusals are what the browser tells of here
	b.visit(at)
	for _, attempt := range []string{
		`fetch("%s/api/v1/databases").then(r => r.text())`,
		`fetch("%s/api/v1/sync?id=acme/billing", {method: "POST", headers: {"Content-Type": "application/json"}, body: '{"confirm":"acme/billing"}'}).then(r => r.text())`,
	} {
		got := eval[string](b, fmt.Sprintf(attempt, s.url)+`.catch(() => "refused")`)
		if got != "refused" {
			t.Errorf("another site reads %q", got)
		}
	}
	if code := b.arrives(chromedp.Click(chromedp.CSS("button"))); code != 403 {
		t.Errorf("status %d for another site's form", code)
	}
	b.want("a page of another site has sent this request")
	if got := files(t, s.restore); len(got) != 0 {
		t.Errorf("another site's form has restored %q", got)
	}
	// The same form from here is good: it was refused for where it came from.
	b.visit(s.url + "/")
	eval[bool](b, `(f => { f.method = "post"; f.action = "/act"; const v = `+jsonOf(form)+`; for (const k in v) { const i = document.createElement("input"); i.name = k; i.value = v[k]; f.append(i); } document.body.append(f); f.id = "own"; return true; })(document.createElement("form"))`)
	b.arrives(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[bool](`document.querySelector("#own").submit() || true`)(ctx, t)
		return err
	}))
	b.want("Restore to a new file: done")
}

func TestThePageIsInNobodysFrame(t *testing.T) {
	s := serve(t, multidbhttp.Options{}, tenants[:1])
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>outer</title><iframe src="%s/"></iframe>`, s.url)
	}))
	defer outer.Close()
	b := open(t, 1280)
	refused := make(chan struct{}, 10)
	b.but(func(trouble string) bool {
		framed := strings.Contains(trouble, "frame-ancestors") || strings.Contains(trouble, "X-Frame-Options")
		if framed {
			refused <- struct{}{}
		}
		return framed
	})
	b.visit(outer.URL)
	b.until(`document.querySelector("iframe") !== null`)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		b.expected(trouble)
	}
	if len(refused) == 0 {
		t.Errorf("the browser does not refuse to frame it: %q", b.troubles)
	}
}

func TestANameThatIsMadeToMeanThisMachineIsRefused(t *testing.T) {
	s := serve(t, everyVerb(t), tenants[:1])
	b := open(t, 1280).but(func(trouble string) bool {
		return strings.Contains(trouble, "evil.example") || strings.Contains(trouble, "Cross-Origin-Opener-Policy")
	})
	if code := b.visit("http://evil.example" + s.url[strings.LastIndex(s.url, ":"):] + "/"); code != 403 {
		t.Errorf("status %d", code)
	}
	if strings.Contains(b.text(), "acme") {
		t.Error("it shows the fleet")
	}
}

func TestWhoDoesNotKnowTheTokenSeesNothing(t *testing.T) {
	opt := everyVerb(t)
	opt.Token = "correct-horse-battery-staple"
	s := serve(t, opt, tenants[:1])
	b := open(t, 360).but(answers("401"))
	if code := b.visit(s.tenant("acme/billing")); code != 401 {
		t.Errorf("status %d", code)
	}
	if strings.Contains(b.text(), "On this machine") {
		t.Error("it shows the database")
	}
	b.shot("login-360")
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), "correct-horse-battery-stable"))
	b.arrives(press(kb.Enter))
	b.want("Sign in")
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), opt.Token))
	b.arrives(press(kb.Enter))
	b.visit(s.tenant("acme/billing"))
	b.want("On this machine")
	if cookie := eval[string](b, `document.cookie`); cookie != "" {
		t.Errorf("a script can read the cookie: %q", cookie)
	}
	if strings.Contains(eval[string](b, `document.documentElement.outerHTML`), opt.Token) {
		t.Error("the token is in the page")
	}
	b.arrives(chromedp.Click(chromedp.CSS("footer button")))
	if code := b.visit(s.url + "/"); code != 401 {
		t.Errorf("status %d after signing out", code)
	}
}

// leaky is a Discoverer whose error tells more than it should.
type leaky struct{ err error }

func (l leaky) Discover(context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) { yield(multidb.Database{}, l.err) }
}

func TestNoSecretIsInThePage(t *testing.T) {
	secrets := []string{"hunter2hunter2", "correct-horse-battery-staple", "AKIAPLANTEDKEY/20261129", "planted-signature", "planted-session"}
	leak := errors.New(`ask "postgres://ops:` + secrets[0] + `@db.internal/tenants": token ` + secrets[1] +
		`; GET https://b.s3.amazonaws.com/k?X-Amz-Credential=` + secrets[2] + `&X-Amz-Signature=` + secrets[3] + `&X-Amz-Security-Token=` + secrets[4])
	opt := everyVerb(t)
	opt.Token = secrets[1]
	s := serve(t, opt, tenants[:1], multidb.WithDiscoverer(leaky{leak}))
	s.replica.Inject(multidbtest.Fault{Err: leak})
	s.write("acme/billing")
	if _, err := s.m.Sync(t.Context(), "acme/billing"); err == nil {
		t.Fatal("the replica does not fail")
	}
	b := open(t, 1280).but(func(trouble string) bool {
		return answers("401", "503")(trouble) || strings.Contains(trouble, "/favicon.ico") // which it wants beside JSON
	})
	b.visit(s.url + "/")
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), opt.Token))
	b.arrives(press(kb.Enter))
	for _, address := range []string{s.url + "/", s.url + "/databases", s.tenant("acme/billing"), s.tenant("acme/billing") + "&points=show", s.url + "/confirm?verb=sync&id=acme/billing",
		s.url + "/api/v1/stats", s.url + "/api/v1/databases", s.url + "/api/v1/database?id=acme/billing", s.url + "/api/v1/events", s.url + "/readyz"} {
		b.visit(address)
		text := eval[string](b, `document.documentElement.outerHTML`)
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s", strings.TrimPrefix(address, s.url), secret)
			}
		}
	}
	b.visit(s.url + "/")
	b.want("Not well", "db.internal", "***") // what failed is told
}
