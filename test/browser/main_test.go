//go:build browser

package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// limit is how long one action of the browser may take.
const limit = 30 * time.Second

// chromium is the one browser of all tests; each tab has cookies of its own.
var chromium context.Context

func TestMain(m *testing.M) { os.Exit(withChromium(m)) }

func withChromium(m *testing.M) int {
	path, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, "these tests need chromium: apt-get install chromium")
		return 1
	}
	profile, err := os.MkdirTemp("", "multidb-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(profile)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox)
	for _, flag := range []string{"disable-gpu", "disable-quic", "disable-component-update", "no-default-browser-check"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	// Whatever a page asks for, no name but this machine's leads anywhere.
	options = append(options, chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	browser, stop := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintln(os.Stderr, "chromium:", err)
		return 1
	}
	chromium = browser
	code := m.Run()
	stop()
	end()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// tab is a tab of the browser. What it sees that must not be fails the test at its end.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	hosts    map[string]bool
	expected func(trouble string) bool // of what must be; nil: nothing
}

// open makes a tab as wide as a screen.
func open(t *testing.T, width int64) *tab {
	t.Helper()
	b := &tab{t: t, hosts: map[string]bool{}}
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.heard))
	b.ctx = ctx
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for host := range b.hosts {
			if host != "127.0.0.1" {
				b.troubles = append(b.troubles, "a request to "+host)
			}
		}
		for _, trouble := range b.troubles {
			if b.expected == nil || !b.expected(trouble) {
				t.Errorf("the browser: %s", trouble)
			}
		}
	})
	if err := chromedp.Do(ctx); err != nil { // without a limit, which would be that of the tab
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(width, 900))
	return b
}

// heard gets every event of the tab.
func (b *tab) heard(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *cdplog.EventEntryAdded: // a violated policy, a failed request
		if ev.Entry.Level == cdplog.EntryLevelError || ev.Entry.Level == cdplog.EntryLevelWarning {
			b.troubles = append(b.troubles, fmt.Sprintf("%s: %s (%s)", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
		}
	case *runtime.EventConsoleAPICalled:
		b.troubles = append(b.troubles, "the console was written to")
	case *runtime.EventExceptionThrown:
		b.troubles = append(b.troubles, "exception: "+ev.ExceptionDetails.Text)
	case *page.EventJavascriptDialogOpening:
		b.troubles = append(b.troubles, "dialog: "+ev.Message)
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(ev.Request.URL); err == nil && u.Scheme != "data" {
			b.hosts[u.Hostname()] = true
		}
	}
}

// answers are the troubles that the browser has with answers of these statuses.
func answers(statuses ...string) func(trouble string) bool {
	return func(trouble string) bool {
		return slices.ContainsFunc(statuses, func(s string) bool { return strings.Contains(trouble, "a status of "+s) })
	}
}

// but says which troubles are what the test is about.
func (b *tab) but(expected func(trouble string) bool) *tab {
	b.expected = expected
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// go to an address; its status.
func (b *tab) visit(url string) int64 {
	b.t.Helper()
	return b.arrives(chromedp.Navigate(url))
}

// arrives does what leads to another page, and returns that page's status.
func (b *tab) arrives(steps ...chromedp.Action[chromedp.Void]) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	answer, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.Status
}

// eval is the value of an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
		b.t.Fatalf("%s: %v\n%s", expression, err, b.text())
	}
}

// text is what the page shows.
func (b *tab) text() string { b.t.Helper(); return eval[string](b, `document.body.innerText`) }

func (b *tab) want(parts ...string) {
	b.t.Helper()
	text := b.text()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			b.t.Errorf("%q is not seen in:\n%s", p, text)
		}
	}
}

// scheme makes the page dark or light.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
		return err
	}))
}

// shot puts a picture of the whole page into the directory that the environment names.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("MULTIDB_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// noScripts forbids the page's script.
func (b *tab) noScripts() {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
}
