package multidbhttp

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

var (
	noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	// evil is an ID that would be markup, an attribute's end, an address, and text that runs
	// from right to left, if anything took it for what it looks like.
	evil = "<img src=x onerror=alert(1)>/\"'><script>alert(2)</script>/javascript:alert(3)/{{.}}/%2e%2e?#\u202egpj.exe"
)

// drawn renders a page, and fails the test if that fails.
func drawn(t *testing.T, render func(http.ResponseWriter) error) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := render(w); err != nil {
		t.Fatal(err)
	}
	return w.Body.String()
}

func evilRow() tenantRow {
	return tenantRow{ID: evil, Tier: "hot", TXID: "00000000000000ff", Lag: time.Second, SyncedAt: noon, Local: 4096, Replica: 5 << 30,
		Sized: true, Resident: true, Reason: "fenced", Err: evil, ErrSince: noon}
}

// everyPage renders all pages with everything that they can show, and evil texts.
func everyPage(t *testing.T) map[string]string {
	t.Helper()
	p := page{Base: "/ops", Fleet: evil, Now: noon.Add(time.Hour), LoggedIn: true, Err: evil}
	row := evilRow()
	events := []eventRow{{At: noon, Type: "failed", ID: evil, Err: evil, Bad: true}}
	column := historyColumn{From: noon, To: noon.Add(15 * time.Minute), Known: true, Lag: make([]int64, len(multidb.LagBounds())+1),
		Commits: 101, P50: time.Second, P99: time.Minute, Requests: 7, Dollars: 0.1, Failing: 1, UnwellAll: 2}
	column.Lag[3], column.Lag[14] = 100, 1
	bounds := multidb.LagBounds()
	stats := multidb.Stats{Databases: 12345, Hot: 1, Cold: 12344, Disk: multidb.DiskStats{Limit: 1 << 40}, Drills: multidb.DrillStats{Done: 1},
		FleetLog: multidb.FleetLogStats{Epoch: 3}}
	all := map[string]string{}
	all["fleet"] = drawn(t, func(w http.ResponseWriter) error {
		return renderFleet(w, nil, &fleetView{page: p, MaxLag: time.Minute, Worst: []tenantRow{row}, General: []problem{{evil, noon}}, Stats: stats,
			Unwell: []reasonCount{{"fenced", 3}}, Nodes: evilNodes(), Events: events, Observed: true, Day: dayView{Over: time.Hour, Dollars: 12.5},
			History: historyView{Sampled: true, From: noon, To: noon.Add(30 * time.Minute), Bounds: bounds[:],
				Columns: []historyColumn{column, {From: noon.Add(15 * time.Minute), To: noon.Add(30 * time.Minute)}}}})
	})
	all["list"] = drawn(t, func(w http.ResponseWriter) error {
		return renderList(w, nil, &listView{page: p, Query: listQuery{Q: evil, Tier: "hot", Reason: "any"}, Rows: []tenantRow{row}, Matches: 1, Known: 2,
			First: "/ops/databases?q=a", Next: "/ops/databases?after=b", Reasons: []string{"fenced", "disk full"}})
	})
	all["tenant"] = drawn(t, func(w http.ResponseWriter) error {
		return renderTenant(w, nil, &tenantView{page: p, Found: true, ID: evil, Row: row, FleetLog: true, Behind: true, Drills: true, ProvedErr: evil,
			Status: multidb.Status{Database: multidb.Database{Path: evil}, Prefix: evil, SyncedAt: noon, PendingSince: noon, LastWrite: noon, ProvedAt: noon, Failures: 2},
			Events: events, Observed: true, Verbs: []verbLink{{VerbAdopt, "/ops/confirm?verb=adopt&id=x"}},
			Points:   []restorePoint{{TXID: "00000000000000ff", CreatedAt: noon, Whole: true, Bytes: 1, URL: "/ops/confirm"}, {TXID: "0f", CreatedAt: noon.Add(-time.Hour)}},
			PointsAt: noon, PointsURL: "/ops/database?id=x&points=1", PointsMore: 4, Outcomes: []outcome{{Verb: VerbSync, ID: evil, At: noon, Text: evil, Err: evil}}})
	})
	all["not found"] = drawn(t, func(w http.ResponseWriter) error { return renderTenant(w, nil, &tenantView{page: p, ID: evil}) })
	all["confirm"] = drawn(t, func(w http.ResponseWriter) error {
		return renderConfirm(w, nil, &confirmView{page: p, Verb: VerbRestore, ID: evil, Row: row, Action: "/ops/do", Fields: []field{{"id", evil}},
			TypeID: true, Into: evil, TXID: "0f", Back: "/ops/"})
	})
	all["login"] = drawn(t, func(w http.ResponseWriter) error {
		return renderLogin(w, nil, &loginView{page: p, Action: "/ops/login", To: evil})
	})
	all["message"] = drawn(t, func(w http.ResponseWriter) error { return renderMessage(w, nil, &p) })
	return all
}

// The page calls stopped what Stats.Stopped counts, so that its figures add up: a damaged file
// is tried again, as one that was put in its place must be seen.
func TestOnlyWhatNobodyTriesAgainIsCalledStopped(t *testing.T) {
	for _, r := range multidb.Reasons() {
		stopped := r == multidb.ReasonFenced || r == multidb.ReasonConflict
		if got := stateOf(tenantRow{Reason: r.String(), Err: "x", TXID: "1"}); strings.HasPrefix(got.Word, "Stopped") != stopped || got.Kind != "bad" {
			t.Errorf("%v: %+v", r, got)
		}
	}
}

func TestTheFirstMinuteDoesNotSayThatNothingWasShipped(t *testing.T) {
	for over, says := range map[time.Duration]string{0: "it takes two samples", time.Minute: "No commit was shipped"} {
		text := drawn(t, func(w http.ResponseWriter) error {
			return renderFleet(w, nil, &fleetView{page: page{Now: noon}, Day: dayView{Over: over}, History: historyView{Sampled: true, From: noon, To: noon}})
		})
		_, text, _ = strings.Cut(text, `id="h-heat"`)
		if text, _, _ = strings.Cut(text, "Requests in 15 minutes"); !strings.Contains(text, says) {
			t.Errorf("after %v: %s", over, text)
		}
	}
}

// The size of a WAL and how far it was read are of two looks, and a commit may lie between them.
func TestNoMoreOfAWALIsInUseThanThereIs(t *testing.T) {
	for pos, says := range map[int64]string{1 << 10: "1.0 KiB of 2.0 KiB in use", 3 << 10: "2.0 KiB of 2.0 KiB in use"} {
		text := drawn(t, func(w http.ResponseWriter) error {
			return renderTenant(w, nil, &tenantView{page: page{Now: noon}, Found: true, Status: multidb.Status{WALSize: 2 << 10, WALPos: pos, Resident: true}})
		})
		if !strings.Contains(text, says) {
			t.Errorf("it does not say %q", says)
		}
	}
}

func TestNoTextOfATenantBecomesMarkup(t *testing.T) {
	scripts := regexp.MustCompile(`(?i)<script|<img|javascript:`)
	values := regexp.MustCompile(`="[^"]*"`)
	inline := regexp.MustCompile(`(?i)<[^>]*\s(on[a-z]+|style)=`)
	for name, text := range everyPage(t) {
		for _, tag := range scripts.FindAllStringIndex(text, -1) {
			if at := text[tag[0]:min(len(text), tag[0]+60)]; !strings.HasPrefix(at, `<script src="/ops/static/page.js" defer>`) && !strings.HasPrefix(at, "javascript:") {
				t.Errorf("%s: %s", name, at)
			}
		}
		if strings.Contains(text, `="javascript:`) {
			t.Errorf("%s: an address is a script", name)
		}
		// A policy forbids them, and an escaped text has no < of its own.
		if at := inline.FindString(values.ReplaceAllString(text, `=""`)); at != "" {
			t.Errorf("%s: %s", name, at)
		}
		if !strings.Contains(text, html.EscapeString("<img src=x onerror=alert(1)>")) {
			t.Errorf("%s does not show the text at all", name)
		}
	}
}

func TestAnIDThatHidesItsEndIsWrittenOut(t *testing.T) {
	for name, text := range everyPage(t) {
		if name == "fleet" || name == "list" || name == "tenant" || name == "confirm" {
			if !strings.Contains(text, `\u202egpj.exe`) {
				t.Errorf("%s does not show the character that turns the direction", name)
			}
		}
	}
}

func TestEveryLinkOfAPageIsBelowItsBase(t *testing.T) {
	links := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	for name, text := range everyPage(t) {
		found := links.FindAllStringSubmatch(text, -1)
		if len(found) < 4 {
			t.Errorf("%s: %d links", name, len(found))
		}
		for _, l := range found {
			if to := l[1]; !strings.HasPrefix(to, "/ops/") && to != "#main" {
				t.Errorf("%s: %s", name, to)
			}
		}
	}
}

func TestEveryFieldHasALabelAndEveryTableACaption(t *testing.T) {
	fields := regexp.MustCompile(`<(?:input|select)[^>]*>`)
	id := regexp.MustCompile(`\sid="([^"]*)"`)
	for name, text := range everyPage(t) {
		for _, f := range fields.FindAllString(text, -1) {
			if strings.Contains(f, `type="hidden"`) {
				continue
			}
			if m := id.FindStringSubmatch(f); m == nil || !strings.Contains(text, `<label for="`+m[1]+`"`) && !strings.Contains(text, `for="`+m[1]+`"`) {
				t.Errorf("%s: no label for %s", name, f)
			}
		}
		if tables, captions := strings.Count(text, "<table"), strings.Count(text, "<caption"); tables != captions {
			t.Errorf("%s: %d tables, %d captions", name, tables, captions)
		}
		seen := map[string]bool{}
		for _, m := range id.FindAllStringSubmatch(text, -1) {
			if seen[m[1]] {
				t.Errorf("%s: two elements have the id %s", name, m[1])
			}
			seen[m[1]] = true
		}
	}
}

func TestAnAssetIsServedOnceAndThenOnlyConfirmed(t *testing.T) {
	for name, kind := range assetTypes {
		r := httptest.NewRequest(http.MethodGet, "/static/"+name, nil)
		r.SetPathValue("name", name)
		w := httptest.NewRecorder()
		serveAsset(w, r)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %s, %d bytes", name, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		w = httptest.NewRecorder()
		serveAsset(w, r)
		if w.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", name, w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/static/fleet.html", nil)
	r.SetPathValue("name", "fleet.html") // a template is no asset
	w := httptest.NewRecorder()
	if serveAsset(w, r); w.Code != http.StatusNotFound {
		t.Errorf("a template is served: %d", w.Code)
	}
}

func TestValuesAreWrittenInWordsOfPeople(t *testing.T) {
	for got, want := range map[string]string{
		span(0): "none", span(300 * time.Microsecond): "under 1 millisecond", span(450 * time.Millisecond): "450 milliseconds",
		span(2500 * time.Millisecond): "2.5 seconds", span(time.Second): "1 second", span(42 * time.Second): "42 seconds",
		span(time.Minute): "1 minute", span(3*time.Minute + 20*time.Second): "3 minutes 20 seconds", span(49 * time.Hour): "2 days 1 hour",
		ago(noon, noon): "just now", ago(noon, noon.Add(90*time.Minute)): "1 hour ago", ago(time.Time{}, noon): "not known",
		size(1): "1 byte", size(0): "0 bytes", size(1536): "1.5 KiB", size(1 << 40): "1.0 TiB", size(1<<20 - 1): "1.0 MiB",
		number(-1234567): "-1,234,567", number(999): "999", plural(1000, "database"): "1,000 databases", plural(int64(1), "object"): "1 object",
		dollars(0): "$0", dollars(0.001): "under $0.01", dollars(1234.5): "$1,234.50", dollars(0.999): "$1.00",
		percent(1, 1000): "under 1 %", percent(0, 0): "0 %", percent(999, 1000): "99 %", percent(3, 3): "100 %", percent(25, 60): "42 %", percent(35, 60): "58 %",
		name("acme/orders"): "acme/orders", name("\u202e"): `"\u202e"`, name(""): `""`,
	} {
		if got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

func TestEachCommitOfADayIsInOneRowOfTheHeatMap(t *testing.T) {
	bounds := multidb.LagBounds()
	lag := make([]int64, len(bounds)+1)
	var sum int64
	for i := range lag {
		lag[i] = int64(1) << i
		sum += lag[i]
	}
	rows := heatCounts(bounds[:], lag)
	var got int64
	for _, n := range rows {
		got += n
	}
	if got != sum || len(rows) != len(heatLabels) {
		t.Errorf("%d of %d commits, %d rows, %d labels", got, sum, len(rows), len(heatLabels))
	}
	for i, limit := range heatLimits { // else a row would have lags above what its label says
		found := false
		for _, b := range bounds {
			found = found || b == limit
		}
		if !found {
			t.Errorf("row %d ends at %v, where no bucket does", i, limit)
		}
	}
	if want := lag[len(lag)-1] + lag[len(lag)-2]; rows[len(rows)-1] != want {
		t.Errorf("above five minutes: %d; want %d", rows[len(rows)-1], want)
	}
}

func TestOneDatabaseOfMillionsIsSeenInTheBarOfTiers(t *testing.T) {
	b := tiersOf(1, 0, 1_000_000)
	if b.Hot < 3 || b.Warm != 0 || b.ColdX+b.Cold != 1000 {
		t.Errorf("%+v", b)
	}
	if tiersOf(0, 0, 0) != (tiers{}) {
		t.Error("no databases have a bar")
	}
}
