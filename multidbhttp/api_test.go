package multidbhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheFleetAndADatabaseAreToldAsTheManagerKnowsThem(t *testing.T) {
	s := newSite(t, []multidb.ID{"acme/orders", "acme/users"}, func(o *Options) { o.Prices = &Prices{Put: 1000, GBMonth: 1e9} })
	stats := read[statsJSON](s, "/api/v1/stats", 200)
	want := s.m.Stats()
	if stats.Databases != 2 || stats.Transactions != want.Transactions || stats.Lag.Count != want.Lag.Count || len(stats.Lag.Buckets) != len(stats.Lag.Bounds) {
		t.Errorf("got %+v", stats)
	}
	if stats.Requests.Put == 0 || stats.RequestCost != float64(stats.Requests.Put) || stats.MonthlyCost != float64(stats.ReplicaBytes) {
		t.Errorf("%d PUTs cost %v, %d bytes %v", stats.Requests.Put, stats.RequestCost, stats.ReplicaBytes, stats.MonthlyCost)
	}
	if stats.Disk != nil || stats.FleetLog != nil || stats.Drills != nil {
		t.Errorf("there is no such thing: %+v", stats)
	}
	got := read[tenantJSON](s, "/api/v1/database?id=acme/orders", 200)
	st, err := s.m.Status("acme/orders")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != "acme/orders" || got.TXID != st.TXID.String() || got.Path != st.Path || got.Tier != "hot" || !got.Resident || got.LocalBytes == 0 ||
		!got.SyncedAt.Equal(st.SyncedAt) || got.Error != "" {
		t.Errorf("got %+v, want %+v", got, st)
	}
	if e := read[errorJSON](s, "/api/v1/database?id=acme/nothing", 404); !strings.Contains(e.Error, "acme/nothing") {
		t.Errorf("got %q", e.Error)
	}
	if e := read[errorJSON](s, "/api/v1/database", 400); !strings.Contains(e.Error, "id is missing") {
		t.Errorf("got %q", e.Error)
	}
	if e := read[errorJSON](s, "/api/v1/nothing", 404); e.Error == "" {
		t.Error("no error")
	}
}

func TestAListComesInPagesByIDWithoutGapsOrRepeats(t *testing.T) {
	var dbs []multidb.Database
	var want []string
	for i := range 2500 {
		id := fmt.Sprintf("p%d/%04d", i%7, i)
		dbs, want = append(dbs, multidb.Database{ID: multidb.ID(id), Path: "/x/" + id}), append(want, id)
	}
	slices.Sort(want)
	s := newServer(t, unstarted(t), Options{Authenticated: true})
	all := func(yield func(multidb.Status) bool) {
		for i, db := range dbs {
			st := multidb.Status{Database: db, Tier: multidb.Tier(i % 3), Resident: i%2 == 0}
			if i%100 == 0 {
				st.Err = fmt.Errorf("x: %w", multidb.ErrFenced)
			}
			if i%1000 == 1 {
				st.Err = errors.New("other")
			}
			if !yield(st) {
				return
			}
		}
	}
	s.all = all
	s.status = func(id multidb.ID) (found multidb.Status, err error) {
		for st := range all {
			if st.ID == id {
				return st, nil
			}
		}
		return found, multidb.ErrNotFound
	}
	list := func(query string) (l listJSON) {
		t.Helper()
		w := ask(t, s, "GET", "/api/v1/databases?"+query)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	var got []string
	for after, pages := "", 0; ; pages++ {
		l := list("limit=1000&after=" + url.QueryEscape(after))
		for _, d := range l.Databases {
			got = append(got, d.ID)
		}
		if l.Known != 2500 || l.Matches != 2500 || pages > 3 {
			t.Fatalf("page %d: %d of %d", pages, l.Matches, l.Known)
		}
		if after = l.Next; after == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d IDs, want %d", len(got), len(want))
	}
	for query, n := range map[string]int{
		"q=P3/": 357, "q=%200007%20": 1, "tier=hot": 833, "tier=hot&resident=true": 417, "reason=fenced": 25, "reason=any": 28,
		"reason=other": 3, "reason=disk+full": 0, "q=none": 0,
	} {
		if l := list(query); l.Matches != n || len(l.Databases) != min(n, pageLimit) || (l.Next == "") != (n <= pageLimit) {
			t.Errorf("%s: %d matches, %d of them here, next %q; want %d", query, l.Matches, len(l.Databases), l.Next, n)
		}
	}
	if l := list("limit=25&reason=fenced"); l.Next != "" || len(l.Databases) != 25 {
		t.Errorf("a page that is just full has %d, and next %q", len(l.Databases), l.Next)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "tier=lukewarm", "reason=bad", "resident=maybe"} {
		w := ask(t, s, "GET", "/api/v1/databases?"+query)
		name, _, _ := strings.Cut(query, "=")
		if w.Code != 400 || !strings.Contains(w.Body.String(), name) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// strange are IDs that an escape might be forgotten for. Files cannot have a slash in their
// names.
var strange = []multidb.ID{
	"a/100%", "a/%2e%2e", "a/..", "a/what?", "a/x#y", "a/<img src=x onerror=alert(1)>", `a/"quoted" 'twice'`, "a/größe ☃",
	"a/javascript:alert(1)", "a/a+b&c=d;e", "a/ space ", "a/\\back", "a/{{.}}", "a/`tick`",
}

func TestEveryIDCanBeAskedForAndIsShownAsText(t *testing.T) {
	s := newSite(t, nil, func(o *Options) { o.Verbs = []Verb{VerbSync} })
	for _, id := range strange {
		if h, err := s.m.Acquire(t.Context(), id); err == nil { // else no pattern allows it
			h.Release()
		}
	}
	n := 0
	for st := range s.m.All() {
		n++
		id := string(st.ID)
		if got := read[tenantJSON](s, "/api/v1/database?id="+escape(id), 200); got.ID != id {
			t.Errorf("%q is told as %q", id, got.ID)
		}
		page := s.get(s.server.tenantURL(id))
		if page.status != 200 || !strings.Contains(page.body, "confirm?id="+strings.ReplaceAll(escape(id), "+", "&#43;")) && !strings.Contains(page.body, "confirm?id="+escape(id)) {
			t.Errorf("%q: %d, and no link to its confirmation", id, page.status)
		}
		confirm := s.get(s.server.confirmURL(VerbSync, id, ""))
		if confirm.status != 200 {
			t.Errorf("%q: confirm: %d", id, confirm.status)
		}
		for _, body := range []string{page.body, confirm.body, s.get("/databases?q=" + escape(id)).body, s.get("/").body} {
			if strings.Contains(body, "<img") || strings.Contains(body, `href="javascript:`) {
				t.Errorf("%q is markup", id)
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d of %d IDs were tried", n, len(strange))
	}
}

func TestRestorePointsAreListedOnceAMinute(t *testing.T) {
	s := newSite(t, []multidb.ID{"acme/orders"}, nil)
	s.write("acme/orders")
	pos, err := s.m.Sync(t.Context(), "acme/orders")
	if err != nil {
		t.Fatal(err)
	}
	lists := s.replica.RequestStats().List
	p := read[pointsJSON](s, "/api/v1/restore-points?id=acme/orders", 200)
	if len(p.Points) < 2 || p.Points[0].TXID != pos.TXID.String() || p.More != 0 || !p.Points[len(p.Points)-1].Whole {
		t.Fatalf("got %+v, want up to %v", p, pos.TXID)
	}
	if q := read[pointsJSON](s, "/api/v1/restore-points?id=acme/orders&limit=1", 200); len(q.Points) != 1 || q.More != len(p.Points)-1 || q.Points[0] != p.Points[0] {
		t.Errorf("got %+v", q)
	}
	if page := s.get("/database?id=acme/orders"); !strings.Contains(page.body, pos.TXID.String()) {
		t.Error("the page lacks the newest")
	}
	if n := s.replica.RequestStats().List - lists; n != 1 {
		t.Errorf("%d listings, want 1", n)
	}
	if e := read[errorJSON](s, "/api/v1/restore-points?id=a/b/c", 404); e.Error == "" {
		t.Error("no error")
	}
}

func TestAPageOfADatabaseAsksTheReplicaNothingUnlessItIsTold(t *testing.T) {
	s := newSite(t, []multidb.ID{"acme/orders"}, nil)
	before := s.replica.RequestStats().List
	if page := s.get("/database?id=acme/orders"); page.status != 200 || !strings.Contains(page.body, "points=show") {
		t.Errorf("%d, no link to the restore points", page.status)
	}
	if n := s.replica.RequestStats().List - before; n != 0 {
		t.Errorf("%d listings", n)
	}
	hang := s.replica.Inject(multidbtest.Fault{Op: multidbtest.OpList, Err: errors.New("https://me:hunter2@store.example/?X-Amz-Signature=hunter2 is away")})
	page := s.get("/database?id=acme/orders&points=show")
	if hang.Hits() == 0 || page.status != 200 || !strings.Contains(page.body, "is away") || strings.Contains(page.body, "hunter2") {
		t.Errorf("%d, %d requests: %s", page.status, hang.Hits(), page.body)
	}
}

func TestOnlySoManyAnswersOfTheReplicaAreKept(t *testing.T) {
	var p points
	p.init()
	now := time.Now()
	for i := range 3 * pointsKept {
		p.keep(multidb.ID(fmt.Sprint(i)), listing{at: now.Add(time.Duration(i) * time.Second)})
	}
	if len(p.kept) != pointsKept {
		t.Errorf("%d are kept", len(p.kept))
	}
	last := multidb.ID(fmt.Sprint(3*pointsKept - 1))
	if _, ok := p.recall(last, now.Add(time.Minute)); !ok {
		t.Error("the last is not")
	}
	if _, ok := p.recall(last, now.Add(time.Hour)); ok {
		t.Error("one is given again after an hour")
	}
}

func TestEventsAreToldOfAllOrOfOne(t *testing.T) {
	s := newSite(t, nil, nil)
	s.events.Observe(multidb.Event{Type: multidb.EventFailed, ID: "a/b", Time: time.Now(), Err: errors.New("postgres://u:hunter2@h/x is away")})
	s.events.Observe(multidb.Event{Type: multidb.EventRecovered, ID: "c/d", TXID: 7})
	all := read[eventsJSON](s, "/api/v1/events", 200)
	if n := len(all.Events); n < 2 || all.Events[0].Type != "recovered" || all.Events[0].TXID != "0000000000000007" {
		t.Errorf("got %+v", all)
	}
	one := read[eventsJSON](s, "/api/v1/events?id=a/b&limit=5", 200)
	if len(one.Events) != 1 || one.Events[0].Error != "postgres://***@h/x is away" {
		t.Errorf("got %+v", one)
	}
	if page := s.get("/database?id=a/b"); page.status != 404 {
		t.Errorf("of a database that is not there: %d", page.status)
	}
}

func TestTheReferenceNamesEveryFieldAndNoOther(t *testing.T) {
	b, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(line, "| `") && !strings.HasPrefix(name, "/") && !strings.Contains(name, " ") {
			documented[name] = true
		}
	}
	have := map[string]bool{}
	var add func(reflect.Type)
	add = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
			return
		}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			have[name] = true
			add(f.Type)
		}
	}
	for _, v := range []any{readyJSON{}, tenantJSON{}, listJSON{}, statsJSON{}, nodesJSON{}, pointsJSON{}, eventsJSON{}, actJSON{}, doneJSON{}, errorJSON{}} {
		add(reflect.TypeOf(v))
	}
	for name := range have {
		if !documented[name] {
			t.Errorf("API.md lacks %s", name)
		}
	}
	for name := range documented {
		if !have[name] {
			t.Errorf("API.md has %s, which no answer has", name)
		}
	}
	for _, path := range []string{"stats", "databases", "database", "restore-points", "events", "nodes"} {
		if !strings.Contains(string(b), "`GET /api/v1/"+path) {
			t.Errorf("API.md lacks %s", path)
		}
	}
	for _, v := range Verbs() {
		if !strings.Contains(string(b), "`POST /api/v1/"+string(v)) {
			t.Errorf("API.md lacks %s", v)
		}
	}
}

func TestMetricsAreTheCallers(t *testing.T) {
	s := newSite(t, nil, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("up 1\n" + r.URL.Path)) })
	})
	if a := s.get("/metrics"); a.status != 200 || a.body != "up 1\n/metrics" {
		t.Errorf("got %d %q", a.status, a.body)
	}
	if a := newSite(t, nil, nil).get("/metrics"); a.status != 404 {
		t.Errorf("without: %d %q", a.status, a.body)
	}
}
