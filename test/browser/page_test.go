//go:build browser

package browser

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/multidb-go/multidb/multidbhttp"
)

var widths = []int64{360, 768, 1280}

// tenant is the address of a database's page.
func (s *site) tenant(id string) string {
	return s.url + "/database?" + url.Values{"id": {id}}.Encode()
}

func press(key string) chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(key) }

func TestTheFleetIsSeenAtAGlance(t *testing.T) {
	s := serve(t, everyVerb(t), tenants)
	b := open(t, 1280)
	if code := b.visit(s.url + "/"); code != 200 {
		t.Fatalf("status %d", code)
	}
	b.want("Well", "Every database is at the replica, at most 1 minute behind", "9 databases", "9 hot", "Requests and dollars a day", "Disk and replica", "The last day")
	s.fail("acme/billing")
	b.until(`document.querySelector("#live-verdict").innerText.includes("acme/billing")`) // by itself, without a reload
	b.want("Not well", "Failing: access denied", "Not shipped, by reason", "the key has no right to write")
	if title := eval[string](b, `document.title`); title != "Not well · eu-1" {
		t.Errorf("the tab is called %q", title)
	}
	if said := eval[string](b, `document.querySelector("#refresh [role=status]").textContent`); said != "Not well." {
		t.Errorf("who listens to the page is told %q", said)
	}
	b.arrives(chromedp.Click(chromedp.CSS(`#live-reasons tbody a`)))
	b.want("1 of 9 databases", "acme/billing")
}

func TestASearchFindsADatabaseByAPartOfItsID(t *testing.T) {
	s := serve(t, multidbhttp.Options{}, tenants)
	b := open(t, 1280)
	b.visit(s.url + "/")
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "LEDG"))
	b.arrives(press(kb.Enter))
	b.want("1 of 9 databases", "northwind/ledger")
	if strings.Contains(b.text(), "quill/notes") {
		t.Error("others are listed too")
	}
	b.arrives(chromedp.Click(chromedp.CSS("table.list tbody a")))
	b.want("northwind/ledger", "Durable up to")
	b.visit(s.url + "/databases?q=nobody")
	b.want("None of 9 databases matches.")
}

func TestATenantsPageShowsWhatIsDurableAndWhatCanBeRestored(t *testing.T) {
	s := serve(t, everyVerb(t), tenants[:3])
	b := open(t, 1280)
	id := "fjordline/tickets"
	lists := s.replica.RequestStats().List
	b.visit(s.tenant(id))
	b.want("Well", s.txid(id).String(), "At the replica", "On this machine", "Not asked for yet")
	if now := s.replica.RequestStats().List; now != lists {
		t.Errorf("the page alone cost %d listings", now-lists)
	}
	b.arrives(chromedp.Click(chromedp.CSS("#points .head a")))
	b.want("restore point", "whole", "Restore")
	if !eval[bool](b, `document.querySelector("svg.line .whole").getAttribute("d") !== ""`) {
		t.Error("no whole state is on the line of time")
	}
	if code := b.but(answers("404")).visit(s.tenant("nobody/here")); code != 404 {
		t.Errorf("status %d for an unknown ID", code)
	}
}

func TestNoVerbIsOfferedUnlessItIsAllowed(t *testing.T) {
	s := serve(t, multidbhttp.Options{Verbs: []multidbhttp.Verb{multidbhttp.VerbSync}}, tenants[:1])
	b := open(t, 1280).but(answers("403"))
	b.visit(s.tenant("acme/billing"))
	if verbs := eval[[]string](b, `[...document.querySelectorAll(".verbs a")].map(a => a.textContent)`); !slices.Equal(verbs, []string{"Sync now"}) {
		t.Errorf("offered: %q", verbs)
	}
	if code := b.visit(s.url + "/confirm?verb=takeover&id=acme/billing"); code != 403 {
		t.Errorf("status %d for a verb that is not allowed", code)
	}
	s.publish(multidbhttp.Options{})
	b.visit(s.tenant("acme/billing"))
	if n := eval[int](b, `document.querySelectorAll(".verbs, form[method=post]").length`); n != 0 {
		t.Errorf("%d verbs and forms by default", n)
	}
}

func TestAVerbIsDoneOnlyAfterItWasConfirmed(t *testing.T) {
	s := serve(t, everyVerb(t), tenants[:2])
	b := open(t, 1280).but(answers("400"))
	id := "acme/billing"
	b.visit(s.tenant(id))
	b.arrives(chromedp.Click(chromedp.Search(`//a[text()="Restore to a new file"]`)))
	b.want("Restore to a new file?", id, s.restore, "the newest state", "Leave it")
	if got := files(t, s.restore); len(got) != 0 {
		t.Fatalf("restored without a confirmation: %q", got)
	}
	b.arrives(chromedp.Click(chromedp.CSS("form.order button")))
	b.want("Restore to a new file: done", "Restored to "+s.restore)
	if got := files(t, s.restore); len(got) != 1 || !strings.HasPrefix(got[0], "acme_billing-newest-") {
		t.Errorf("in the directory: %q", got)
	}
	b.arrives(chromedp.Click(chromedp.Search(`//a[text()="Take over"]`)))
	b.do(chromedp.SendKeys(chromedp.CSS("#typed"), "acme/bill"))
	if code := b.arrives(press(kb.Enter)); code != 400 {
		t.Errorf("status %d for a wrong ID", code)
	}
	b.want("Nothing was done")
	b.do(chromedp.SendKeys(chromedp.CSS("#typed"), id))
	b.arrives(press(kb.Enter))
	b.want("Take over: done")
}

// focus is what the keyboard is at, in words.
const focus = `(e => e.id || e.textContent.trim() || e.tagName)(document.activeElement)`

// tabTo presses the tabulator until the keyboard is at something that is seen to be so.
func (b *tab) tabTo(what string) {
	b.t.Helper()
	var passed []string
	for range 60 {
		b.do(press(kb.Tab))
		at := eval[string](b, focus)
		if !eval[bool](b, `(s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
			b.t.Errorf("%q has the focus, and nobody sees it", at)
		}
		if at == what {
			return
		}
		passed = append(passed, at)
	}
	b.t.Fatalf("%q is not reached by the tabulator, but %q", what, passed)
}

func TestAllOfItIsReachedByKeyboardAlone(t *testing.T) {
	s := serve(t, everyVerb(t), tenants[:3])
	b := open(t, 1280)
	b.visit(s.url + "/")
	b.do(press(kb.Tab))
	if at := eval[string](b, focus); at != "Skip to the content" {
		t.Errorf("the first stop is %q", at)
	}
	if top := eval[float64](b, `document.activeElement.getBoundingClientRect().top`); top < 0 {
		t.Error("the link that skips to the content is not seen when it has the focus")
	}
	b.do(press(kb.Enter))
	b.until(`document.activeElement.id === "main"`)
	b.tabTo("Pause refreshing")
	b.do(press(kb.Enter))
	b.until(`document.querySelector("#refresh button").getAttribute("aria-pressed") === "true"`)
	b.tabTo("The same as a table, by hour")
	b.do(press(kb.Enter))
	b.until(`document.querySelector("#d-hours").open`)
	b.visit(s.url + "/")
	b.tabTo("find")
	b.do(press("acme"))
	b.arrives(press(kb.Enter))
	b.tabTo("acme/billing")
	b.arrives(press(kb.Enter))
	b.tabTo("Sync now")
	b.arrives(press(kb.Enter))
	b.tabTo("Sync now")
	b.arrives(press(kb.Enter))
	b.want("Sync now: done")
}

func TestNoPageIsWiderThanTheScreen(t *testing.T) {
	long := strings.Repeat("a-very-long-name-without-a-space", 6)
	s := serve(t, everyVerb(t), append([]string{long}, tenants...))
	s.fail("acme/billing")
	s.fail(long)
	pages := map[string]string{"fleet": s.url + "/", "list": s.url + "/databases", "tenant": s.tenant("acme/billing") + "&points=show", "tenant-long": s.tenant(long),
		"confirm": s.url + "/confirm?verb=takeover&id=" + long}
	for _, width := range widths {
		b := open(t, width)
		for name, address := range pages {
			for _, scheme := range []string{"light", "dark"} {
				b.scheme(scheme)
				if code := b.visit(address); code != 200 {
					t.Fatalf("%s: status %d", name, code)
				}
				b.shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
			}
			b.until(`[...document.querySelectorAll("details")].every(d => d.open = true)`) // what is folded counts, too
			if wide := eval[int64](b, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%s: %d pixels on a screen of %d: %s", name, wide, width,
					eval[string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 4).map(e => e.outerHTML.slice(0, 80)).join("; ")`))
			}
		}
	}
}

func TestThePageGoesOnByItselfUntilItIsPaused(t *testing.T) {
	s := serve(t, multidbhttp.Options{}, tenants[:2])
	b := open(t, 1280)
	b.visit(s.url + "/")
	b.do(chromedp.Focus(chromedp.CSS(`#live-tiers .head a`)))
	was := eval[string](b, `document.querySelector("#live-now").textContent`)
	s.fail("acme/billing")
	b.until(`document.querySelector("#live-tiers dd").textContent === "1"`)
	if at := eval[string](b, focus); at != "List them" {
		t.Errorf("the focus went to %q", at)
	}
	b.do(chromedp.Click(chromedp.CSS("#refresh button")))
	b.until(`document.querySelector("#refresh [role=status]").textContent === "Paused."`)
	if now := eval[string](b, `document.querySelector("#live-now").textContent`); now == was {
		t.Error("the page does not say that it is newer")
	}
	b.visit(s.url + "/databases")
	if !eval[bool](b, `document.querySelector("#refresh button").getAttribute("aria-pressed") === "true"`) {
		t.Error("the next page goes on though it was paused")
	}
}

func TestAllOfItWorksWithoutScripts(t *testing.T) {
	s := serve(t, everyVerb(t), tenants)
	b := open(t, 1280)
	b.noScripts()
	b.visit(s.url + "/")
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "ledger"))
	b.arrives(press(kb.Enter))
	b.arrives(chromedp.Click(chromedp.CSS("table.list tbody a")))
	b.arrives(chromedp.Click(chromedp.Search(`//a[text()="Sync now"]`)))
	b.arrives(chromedp.Click(chromedp.CSS("form.order button")))
	b.want("Sync now: done")
	if eval[bool](b, `document.querySelector("#refresh").checkVisibility()`) {
		t.Error("a button that does nothing is shown")
	}
}

// How long it takes is logged, and limited as every action of the browser is: machines differ.
// What must not grow with the fleet is what is sent and drawn.
func TestAHundredThousandTenantsMakeNoLargePage(t *testing.T) {
	s := crowd(t, 100_000)
	b := open(t, 1280)
	for _, path := range []string{"/", "/databases", "/databases?q=tenant-099", "/databases?tier=cold&after=tenant-050000", "/database?id=tenant-077777"} {
		began := time.Now()
		if code := b.visit(s.url + path); code != 200 {
			t.Fatalf("%s: status %d", path, code)
		}
		took := time.Since(began)
		server := eval[float64](b, `(n => n.responseEnd - n.requestStart)(performance.getEntriesByType("navigation")[0])`)
		nodes := eval[int](b, `document.querySelectorAll("*").length`)
		bytes := eval[int](b, `performance.getEntriesByType("navigation")[0].decodedBodySize`)
		t.Logf("%s: the server %.0f ms, seen after %d ms, %d elements, %d bytes", path, server, took.Milliseconds(), nodes, bytes)
		if nodes > 3000 || bytes > 300_000 {
			t.Errorf("%s: %d elements, %d bytes", path, nodes, bytes)
		}
	}
	b.visit(s.url + "/databases?q=tenant-0999")
	b.want("100 of 100,000 databases")
	b.visit(s.url + "/databases")
	first := eval[string](b, `document.querySelector("table.list tbody a").textContent`)
	b.arrives(chromedp.Click(chromedp.CSS(`a[rel=next]`)))
	if next := eval[string](b, `document.querySelector("table.list tbody a").textContent`); first != "tenant-000000" || next <= first {
		t.Errorf("the pages begin with %q and %q", first, next)
	}
}
