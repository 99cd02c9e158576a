package multidbhttp

import (
	"encoding/json"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

const orders = multidb.ID("acme/orders")

func allVerbs(dir string) func(*Options) {
	return func(o *Options) { o.Verbs, o.RestoreDir = Verbs(), dir }
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// fields are the hidden fields of a page's form.
func fields(t *testing.T, a answer) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, f := range hidden.FindAllStringSubmatch(a.body, -1) {
		m[f[1]] = html.UnescapeString(f[2])
	}
	if m["confirm"] == "" {
		t.Fatalf("%d: no form in %s", a.status, a.body)
	}
	return m
}

func done(t *testing.T, a answer) (d doneJSON) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &d); err != nil {
		t.Fatalf("%d: %v: %s", a.status, err, a.body)
	}
	return d
}

func TestNothingCanBeDoneUnlessTheCallerAllowsIt(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, nil)
	allowed := newSite(t, []multidb.ID{orders}, allVerbs(t.TempDir()))
	for _, v := range Verbs() {
		if a := s.post("/api/v1/"+string(v)+"?id=acme/orders", actJSON{Confirm: string(orders)}); a.status != 403 || done(t, a).Done {
			t.Errorf("%s: %d %s", v, a.status, a.body)
		}
		if a := s.get(s.server.confirmURL(v, string(orders), "")); a.status != 403 {
			t.Errorf("%s: its confirmation is %d", v, a.status)
		}
		form := fields(t, allowed.get(allowed.server.confirmURL(v, string(orders), "")))
		form["typed"] = string(orders)
		if a := s.form("/act", "", form); a.status != 403 {
			t.Errorf("%s: its form is %d", v, a.status)
		}
	}
	if page := s.get("/database?id=acme/orders"); strings.Contains(page.body, "/confirm") {
		t.Error("the page has what is not allowed")
	}
	if err := s.server.actions.outcomes; err != nil {
		t.Errorf("done: %v", err)
	}
}

func TestAVerbIsDoneByItsConfirmationOnceAndNoOther(t *testing.T) {
	s := newSite(t, []multidb.ID{orders, "acme/users"}, allVerbs(t.TempDir()))
	s.write(orders)
	form := fields(t, s.get(s.server.confirmURL(VerbEvict, string(orders), "")))
	for name, value := range map[string]string{"verb": "sync", "id": "acme/users", "confirm": form["confirm"] + "0", "": ""} {
		changed := map[string]string{}
		for k, v := range form {
			changed[k] = v
		}
		changed[name] = value
		if name == "" {
			delete(changed, "confirm")
		}
		if a := s.form("/act", "", changed); a.status != 403 || len(s.server.actions.outcomes) > 0 {
			t.Errorf("with another %s: %d, %v", name, a.status, s.server.actions.outcomes)
		}
	}
	a := s.form("/act", "", form)
	if a.status != 200 || a.at != "/database?id=acme%2Forders" || !strings.Contains(a.body, "everything is at the replica") {
		t.Errorf("%d at %s: %s", a.status, a.at, a.body)
	}
	if st := s.m.Stats(); st.Pool.Open != 1 {
		t.Errorf("%d are open, want that of users alone", st.Pool.Open)
	}
	again := s.form("/act", "", form)
	if again.status != 403 || !strings.Contains(again.body, "used before") || len(s.server.actions.outcomes) != 1 {
		t.Errorf("again: %d", again.status)
	}
	if a := s.form("/act", "", fields(t, again)); a.status != 200 { // the new form that it has
		t.Errorf("the new form: %d", a.status)
	}
	if a := s.get("/act"); a.status != 405 && a.status != 404 {
		t.Errorf("by GET: %d", a.status)
	}
	for _, o := range s.server.actions.of(string(orders), 5) {
		if o.Err != "" || o.Verb != VerbEvict {
			t.Errorf("got %+v", o)
		}
	}
	if log := s.log.String(); !strings.Contains(log, "verb=evict id=acme/orders from=127.0.0.1:") {
		t.Errorf("the log: %s", log)
	}
}

func TestAConfirmationIsOfItsSessionAndForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, unstarted(t), Options{Verbs: Verbs(), RestoreDir: t.TempDir()})
		a := action{verb: VerbRestore, id: "a/b", txid: 7}
		token := func() string { return s.confirmation(a, "me", time.Now().Add(confirmFor), "nonce") }
		if s.confirmed(a, "you", token()) {
			t.Error("of another session")
		}
		if s.confirmed(action{VerbRestore, "a/b", 8}, "me", token()) {
			t.Error("of another transaction")
		}
		if s.confirmed(a, "me", "") || s.confirmed(a, "me", "9999999999.nonce.") {
			t.Error("of nobody")
		}
		old := token()
		<-time.After(confirmFor)
		if s.confirmed(a, "me", old) {
			t.Error("after ten minutes")
		}
		if one := token(); !s.confirmed(a, "me", one) || s.confirmed(a, "me", one) {
			t.Error("it can be used, and once")
		}
		<-time.After(confirmFor)
		if other := token(); !s.confirmed(a, "me", other) || len(s.actions.used) != 1 {
			t.Errorf("%d used ones are kept", len(s.actions.used))
		}
	})
}

func TestARestoreMakesANewFileInItsDirectoryAndNowhereElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "restored")
	s := newSite(t, []multidb.ID{orders, "a/x. %2f"}, allVerbs(dir))
	before, err := s.m.Status(orders)
	if err != nil {
		t.Fatal(err)
	}
	s.write(orders)
	if _, err := s.m.Sync(t.Context(), orders); err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for i, c := range []struct {
		id, txid string
		rows     int
	}{{string(orders), "", 2}, {string(orders), "", 2}, {string(orders), before.TXID.String(), 1}, {"a/x. %2f", "", 1}} {
		a := s.post("/api/v1/restore?id="+escape(c.id), actJSON{Confirm: c.id, TXID: c.txid})
		d := done(t, a)
		if a.status != 200 || !d.Done || filepath.Dir(d.Path) != dir || files[d.Path] || strings.ContainsAny(filepath.Base(d.Path), " %/") {
			t.Fatalf("%d: %d %s", i, a.status, a.body)
		}
		files[d.Path] = true
		if n := rowsIn(t, d.Path); n != c.rows {
			t.Errorf("%d: %d rows, want %d", i, n, c.rows)
		}
	}
	for _, txid := range []string{"7", "xyz", "../../etc", "0000000000000000"} {
		if a := s.post("/api/v1/restore?id=acme/orders", actJSON{Confirm: string(orders), TXID: txid}); a.status != 400 {
			t.Errorf("txid %q: %d %s", txid, a.status, a.body)
		}
	}
	if a := s.post("/api/v1/restore?id=acme/none", actJSON{Confirm: "acme/none"}); a.status != 404 || done(t, a).Error == "" {
		t.Errorf("without a backup: %d %s", a.status, a.body)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files) {
		t.Errorf("%d files (%v), want %d", len(entries), err, len(files))
	}
}

func TestAdoptAndTakeOverNeedTheIDTyped(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, allVerbs(t.TempDir()))
	other := newManager(t, s.replica, t.TempDir(), multidb.WithRestoreOnOpen()) // another machine, which goes on with it
	o := site{t: t, m: other}
	o.write(orders)
	if _, err := other.Sync(t.Context(), orders); err != nil {
		t.Fatal(err)
	}
	s.write(orders)
	if _, err := s.m.Sync(t.Context(), orders); !errors.Is(err, multidb.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	if d := s.post("/api/v1/sync?id=acme/orders", actJSON{Confirm: string(orders)}); d.status != 409 || done(t, d).Reason != "fenced" {
		t.Errorf("sync of a fenced one: %d %s", d.status, d.body)
	}
	if list := read[listJSON](s, "/api/v1/databases?reason=fenced", 200); list.Matches != 1 || list.Databases[0].Reason != "fenced" {
		t.Errorf("got %+v", list)
	}
	form := fields(t, s.get(s.server.confirmURL(VerbAdopt, string(orders), "")))
	for _, typed := range []string{"", "acme/order", "ACME/ORDERS"} {
		form["typed"] = typed
		if a := s.form("/act", "", form); a.status != 400 || !strings.Contains(a.body, "Nothing was done") {
			t.Errorf("typed %q: %d", typed, a.status)
		}
	}
	form["typed"] = " acme/orders "
	a := s.form("/act", "", form)
	if a.status != 200 || !strings.Contains(a.body, "kept as") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, err := s.m.Sync(t.Context(), orders); err != nil {
		t.Errorf("after it: %v", err)
	}
	// Now the other one is the one that is fenced.
	s.write(orders)
	if _, err := s.m.Sync(t.Context(), orders); err != nil {
		t.Fatal(err)
	}
	o.write(orders)
	if _, err := other.Sync(t.Context(), orders); !errors.Is(err, multidb.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	taker := newServer(t, other, Options{Verbs: []Verb{VerbTakeOver}, Authenticated: true, Logger: slog.New(slog.DiscardHandler)})
	r, err := taker.do(t.Context(), action{verb: VerbTakeOver, id: orders}, "test")
	if _, after := other.Sync(t.Context(), orders); err != nil || after != nil || r.took == 0 {
		t.Errorf("take over: %v, then %v", err, after)
	}
}

func TestAnOrderByTheAPIHasToRepeatTheIDAsJSON(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, allVerbs(t.TempDir()))
	for body, says := range map[string]string{
		`{}`:                                     "repeat the ID",
		`{"confirm":"acme/users"}`:               "repeat the ID",
		`{"confirm":"acme/orders","force":true}`: "force",
		`confirm=acme/orders`:                    "cannot be read",
		`{"confirm":"acme/orders","txid":"0000000000000001"}`: "for restore alone",
		`"` + strings.Repeat("x", 100<<10) + `"`:              "too large",
	} {
		r := s.request("POST", "/api/v1/sync?id=acme/orders", body)
		r.Header.Set("Content-Type", "application/json")
		if a := s.send(r); a.status != 400 || !strings.Contains(a.body, says) {
			t.Errorf("%.50s: %d %s, want what says %q", body, a.status, a.body, says)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		r := s.request("POST", "/api/v1/sync?id=acme/orders", `{"confirm":"acme/orders"}`)
		r.Header.Set("Content-Type", kind)
		if a := s.send(r); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("as %q: %d %s", kind, a.status, a.body)
		}
	}
	if len(s.server.actions.outcomes) > 0 {
		t.Errorf("done: %v", s.server.actions.outcomes)
	}
	s.write(orders)
	a := s.post("/api/v1/sync?id=acme/orders", actJSON{Confirm: string(orders)})
	st, err := s.m.Status(orders)
	if d := done(t, a); a.status != 200 || err != nil || !d.Done || d.TXID != st.TXID.String() || d.Took <= 0 {
		t.Errorf("%d %s, %v", a.status, a.body, err)
	}
}

func TestTooManyVerbsAtOnceAreRefused(t *testing.T) {
	s := newSite(t, []multidb.ID{orders}, allVerbs(t.TempDir()))
	for range maxActions {
		s.server.actions.turns <- struct{}{}
	}
	if a := s.post("/api/v1/sync?id=acme/orders", actJSON{Confirm: string(orders)}); a.status != http.StatusTooManyRequests {
		t.Errorf("%d %s", a.status, a.body)
	}
	form := fields(t, s.get(s.server.confirmURL(VerbSync, string(orders), "")))
	if a := s.form("/act", "", form); a.status != http.StatusTooManyRequests || len(fields(t, a)) == 0 {
		t.Errorf("the form: %d", a.status)
	}
	for range maxActions {
		<-s.server.actions.turns
	}
	if a := s.post("/api/v1/sync?id=acme/orders", actJSON{Confirm: string(orders)}); a.status != 200 {
		t.Errorf("then: %d %s", a.status, a.body)
	}
}

func TestOnlyTheLastOutcomesAreKept(t *testing.T) {
	var a actions
	for i := range 3 * outcomesKept {
		a.note(outcome{ID: string(rune('a' + i%2)), Took: time.Duration(i)})
	}
	got := a.of("b", 3)
	took := func(o outcome) int { return int(o.Took) }
	var all []int
	for _, o := range got {
		all = append(all, took(o))
	}
	if len(a.outcomes) != outcomesKept || !slices.Equal(all, []int{299, 297, 295}) {
		t.Errorf("%d kept; %v", len(a.outcomes), all)
	}
}
