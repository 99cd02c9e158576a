package fleet

import (
	"errors"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

var errBroken = errors.New("no answer")

// rig is a Fleet whose clock stands, with what it did.
type rig struct {
	*Fleet
	now    time.Time
	events []Event
	forgot []string
	due    int
}

// newRig returns a Fleet that serves, with a replica. change may change its Config.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{now: time.Unix(1_700_000_000, 0)}
	cfg := Config{
		Now: func() time.Time { return r.now }, Boot: func() time.Duration { return time.Hour }, Rand: func() float64 { return 0 },
		Limits:       schedule.Limits{MaxHot: 10, SyncInterval: time.Hour, ColdSyncInterval: time.Hour, HotDuration: 10 * time.Hour, RecentModify: time.Minute},
		AbsentWindow: time.Minute, Replicated: true,
		Reasons: 2, Reason: func(error) int { return 1 },
		Due: func() { r.due++ }, Forget: func(id string) { r.forgot = append(r.forgot, id) },
		Deliver: func(ev Event) { r.events = append(r.events, ev) },
		AsEvent: func(err error) Event { return Event{Type: EventState, Err: err} },
	}
	if change != nil {
		change(&cfg)
	}
	r.Fleet = New(cfg)
	r.Life(func(l *life.Life) {
		l.Start(func() {})
		l.Started(true)
	})
	return r
}

// find makes a database known, of a listing.
func (r *rig) find(t *testing.T, id string, file fsid.ID) *Entry {
	t.Helper()
	f := registry.Found{ID: id, Path: "/data/" + id, Sight: registry.Sight{File: file}, Scan: r.NextScan()}
	q, ok := r.Ask(f)
	if !ok {
		t.Fatalf("nothing is asked about %s", id)
	}
	out := r.Decide(f, q, fsid.ID{}, fsid.ID{}, Candidate{Database: registry.Database{ID: id, Path: f.Path, ModTime: r.now}, Prefix: Prefix{Path: "replica/" + id}})
	if out.Entry == nil {
		t.Fatalf("%s is not known: %+v", id, out)
	}
	return out.Entry
}

// run takes a database through a run, which reports rep.
func (r *rig) run(t *testing.T, e *Entry, rep replicate.Report) {
	t.Helper()
	run := r.begin(t, e)
	rep.Started = run.Started()
	r.Settled(run, &rep, nil)
	if rep.Err != nil || rep.Drained {
		r.Answer(run, &rep, rep.Err)
	}
	r.Finish(run, &rep)
}

// begin begins a run of a database.
func (r *rig) begin(t *testing.T, e *Entry) *Run {
	t.Helper()
	r.Request(e)
	due, action, ok := r.Next(r.now)
	if !ok || due != e {
		t.Fatal("it is not due")
	}
	run := &Run{Entry: e, Action: action}
	r.Begin(run)
	return run
}

// The bytes of an entry are paid 100,000 times.
func TestAnEntryIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Entry{}); n > 224 {
		t.Errorf("an entry has %d bytes, more than its size class of 224", n)
	}
}

// TestARemovedDatabaseStillKnowsThatItHadAFile: an Acquire of it that is under way would
// otherwise make an empty one in its place. Nobody finds it by the file.
func TestARemovedDatabaseStillKnowsThatItHadAFile(t *testing.T) {
	r := newRig(t, nil)
	file := fsid.ID{Dev: 1, Ino: 7}
	e := r.find(t, "a", file)
	if h, err := r.Hold("a", nil); err != nil || h.Entry != e {
		t.Fatalf("held %+v, %v", h, err)
	}
	if r.ByFile(file) != e {
		t.Error("not found by its file")
	}
	// Its ID moves to another path meanwhile.
	f := registry.Found{ID: "a", Path: "/other/a", Sight: registry.Sight{File: fsid.ID{Dev: 1, Ino: 8}}, Scan: r.NextScan(), Last: true}
	q, _ := r.Ask(f)
	out := r.Decide(f, q, fsid.ID{}, fsid.ID{}, Candidate{Database: registry.Database{ID: "a", Path: f.Path}, Prefix: Prefix{Path: "replica/a"}})
	if out.Entry == nil || out.Entry == e {
		t.Fatalf("not moved: %+v", out)
	}
	if r.ByFile(file) != nil {
		t.Error("found by the file that it had")
	}
	if !r.BeginMaking(e) {
		t.Error("an Acquire under way may make an empty file")
	}
	if !slices.Equal(r.forgot, []string{"a"}) {
		t.Errorf("forgotten: %q", r.forgot)
	}
}

// TestTheReportOfARunIsWhatIsKnownThen: position, error, events and counts stand in one
// place.
func TestTheReportOfARunIsWhatIsKnownThen(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	if s := r.Status(e); s.Lag != 0 || s.TXID != 0 || s.Err != nil {
		t.Errorf("new: %+v", s)
	}
	r.now = r.now.Add(2 * time.Hour)
	if ok := len(r.Worst(time.Hour, 10)) == 0; ok {
		t.Error("what was never shipped does not lag")
	}
	r.run(t, e, replicate.Report{Err: errBroken, Measured: true, Backlog: replicate.Backlog{WALEnd: 9, Lag: 5}})
	if s := r.Status(e); !errors.Is(s.Err, errBroken) || s.Backlog.Lag != 5 || s.Failures != 1 {
		t.Errorf("failed: %+v", s)
	}
	if c, total := r.Counts(); c.Failing[1] != 1 || total.Failures[1] != 1 {
		t.Errorf("failing %v of %v", c.Failing, total.Failures)
	}
	done := r.Sync(e)
	rep := replicate.Report{Drained: true, Counts: replicate.Counts{Transactions: 3}, Events: []replicate.Event{{Type: replicate.EventResync, TXID: 4}}}
	rep.Position.TXID = 4
	r.events = nil
	r.run(t, e, rep)
	if s := <-done; s.TXID != 4 || s.Err != nil {
		t.Errorf("answered %+v", s)
	}
	if s := r.Status(e); s.Err != nil || s.TXID != 4 || s.Lag != 0 || s.Backlog.Lag != 0 || !s.SyncedAt.Equal(r.now) {
		t.Errorf("synced: %+v", s)
	}
	if c, total := r.Counts(); c.Failing[1] != 0 || total.Transactions != 3 {
		t.Errorf("failing %v, %d transactions", c.Failing, total.Transactions)
	}
	var types []EventType
	for _, ev := range r.events {
		types = append(types, ev.Type)
	}
	if !slices.Equal(types, []EventType{EventResync, EventRecovered}) {
		t.Errorf("events %v", types)
	}
}
