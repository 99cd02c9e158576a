package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/superfly/ltx"
)

// always is what holds whenever everything waits for the clock.
func (w *world) always() {
	w.t.Helper()
	st := w.m.Stats()
	switch {
	case st.Databases != st.Cold+st.Warm+st.Hot:
		w.fail("%d databases, but %d cold, %d warm, %d hot", st.Databases, st.Cold, st.Warm, st.Hot)
	case st.Hot > w.limits.maxHot:
		w.fail("%d hot, at most %d may be", st.Hot, w.limits.maxHot)
	case st.Warm > 0 && st.Hot < w.limits.maxHot:
		w.fail("%d warm, although only %d of %d are hot", st.Warm, st.Hot, w.limits.maxHot)
	case st.Stopped != 0:
		w.fail("%d databases stopped, of a single writer", st.Stopped)
	case st.Pool.Open > w.limits.maxOpen:
		w.fail("%d open, at most %d may be", st.Pool.Open, w.limits.maxOpen)
	case st.Pool.Leased != w.leased():
		w.fail("%d leased, %d are", st.Pool.Leased, w.leased())
	case st.Pool.Waiting != 0:
		w.fail("%d wait for a place, nobody does", st.Pool.Waiting)
	}
	for _, s := range w.subjects {
		if len(s.held) == 0 {
			continue
		}
		var n int
		if err := s.held[0].DB().QueryRow("SELECT n FROM meta").Scan(&n); err != nil || n != s.states[s.cur].n {
			w.fail("%s is leased, and its handle says %d, %v; want %d", s.id, n, err, s.states[s.cur].n)
		}
		if got := w.status(s); got.Tier == multidb.Cold || !got.Leased {
			w.fail("%s is leased, but %v, leased %v", s.id, got.Tier, got.Leased)
		}
	}
}

func (w *world) status(s *subject) multidb.Status {
	w.t.Helper()
	st, err := w.m.Status(s.id)
	if err != nil {
		w.fail("status of %s: %v", s.id, err)
	}
	return st
}

// rest lets everything end, and compares the Manager and the replica with the
// model: with no fault left all is there, with no help.
func (w *world) rest() {
	w.heal()
	w.listing.setBroken(false)
	w.pass(w.limits.atRest())
	w.log("at rest")
	w.tally.checks++
	w.checkKnown()
	for _, s := range w.sorted() {
		if s.exists {
			w.checkAtRest(s)
		}
	}
	if ok, worst := w.m.Healthy(w.limits.cold + w.limits.sync); !ok {
		w.fail("not healthy: %+v", worst)
	}
	w.checkEvents()
	switch w.rng.IntN(8) {
	case 0:
		w.idle(time.Minute, false)
	case 1:
		// Compacted, sealed and rid of what is old: then there is nothing at all.
		w.pass(w.limits.hot + w.limits.retention + 3*w.limits.l0 + 3*w.limits.retentionInterval + 2*w.limits.grace + w.limits.atRest())
		w.idle(2*w.limits.retentionInterval, true)
		for _, s := range w.sorted() {
			if s.exists {
				w.checkAtRest(s)
			}
		}
	}
}

// known is the IDs that the Manager says there are.
func (w *world) known() []multidb.ID {
	var ids []multidb.ID
	for st := range w.m.All() {
		ids = append(ids, st.ID)
	}
	slices.Sort(ids)
	return ids
}

func (w *world) checkKnown() {
	w.t.Helper()
	var want []multidb.ID
	for _, s := range w.sorted() {
		if s.exists {
			want = append(want, s.id)
		}
	}
	if got := w.known(); !slices.Equal(got, want) {
		w.fail("known are %v, there are %v", got, want)
	}
}

// checkAtRest compares one database with what is said of it and with its replica.
func (w *world) checkAtRest(s *subject) {
	w.t.Helper()
	st := w.status(s)
	if st.Err != nil || st.Failures != 0 || st.Lag != 0 {
		w.fail("%s at rest: error %v, %d failures, lag %v", s.id, st.Err, st.Failures, st.Lag)
	}
	if st.Leased != (len(s.held) > 0) {
		w.fail("%s: leased %v, but %d leases", s.id, st.Leased, len(s.held))
	}
	i, ok := w.restorable(s)
	if s.states[s.cur].n != 0 {
		if !ok || s.states[i] != s.states[s.cur] {
			w.fail("%s at rest: the replica has state %d of %d", s.id, i, s.cur)
		}
		s.promise(s.cur)
		if got := w.lastTXID(s); got != st.TXID && !(s.old && st.TXID < got) {
			w.fail("%s: the status says TXID %d, the replica ends at %d", s.id, st.TXID, got)
		}
	}
	s.doubt = false
	quiet := time.Since(w.lastChange(s))
	switch {
	// Twice, as a demotion that meets somebody at the file counts him for a writer.
	case len(s.held) == 0 && quiet > 2*w.limits.hot+w.limits.atRest() && st.Tier != multidb.Cold:
		w.fail("%s is %v, after %v without anything", s.id, st.Tier, quiet)
	case !s.wroteAt.IsZero() && s.wroteAt.After(w.faultAt) && !s.moved &&
		time.Since(s.wroteAt) < w.limits.hot && st.Tier == multidb.Cold:
		w.fail("%s is cold, although it was written %v ago", s.id, time.Since(s.wroteAt))
	}
}

// lastChange is when anything happened to a database. The pool is a part of it: a
// handle that it closes copies the WAL into the file, which counts as a write.
func (w *world) lastChange(s *subject) time.Time {
	at := s.quietAt
	if w.faultAt.After(at) {
		at = w.faultAt // what could not be shipped before is news then
	}
	for _, p := range []string{s.path, s.path + "-wal"} {
		if st, err := w.stamps.stat(p); err == nil {
			if m := time.Unix(0, st.Mtime); m.After(at) {
				at = m
			}
		}
	}
	return at
}

// lastTXID is where the prefix ends.
func (w *world) lastTXID(s *subject) (last ltx.TXID) {
	for _, f := range w.rep.Files(string(s.id)) {
		last = max(last, f.MaxTXID)
	}
	return last
}

// checkEvents compares what was told with what was counted.
func (w *world) checkEvents() {
	w.t.Helper()
	st := w.m.Stats()
	w.mu.Lock()
	events := slices.Clone(w.events)
	w.mu.Unlock()
	var up, down, resyncs, snapshots int64
	failing := map[multidb.ID]bool{}
	for _, ev := range events {
		switch ev.Type {
		case multidb.EventTier:
			if ev.From == multidb.Cold {
				up++
			} else if ev.To == multidb.Cold {
				down++
			}
		case multidb.EventResync:
			resyncs++
		case multidb.EventSnapshot:
			snapshots++
		case multidb.EventFailed:
			if failing[ev.ID] {
				w.fail("%s began to fail twice", ev.ID)
			}
			failing[ev.ID] = true
		case multidb.EventRecovered:
			if !failing[ev.ID] {
				w.fail("%s recovered, and had not failed", ev.ID)
			}
			delete(failing, ev.ID)
		case multidb.EventRemoved:
			delete(failing, ev.ID)
		case multidb.EventFenced, multidb.EventIgnored, multidb.EventState:
			if ev.Err == multidb.ErrCopied { // as an old one is, that was put back
				break
			}
			w.fail("event %v of %s: %v", ev.Type, ev.ID, ev.Err)
		}
	}
	if up != st.Promotions || down != st.Demotions || resyncs != st.Resyncs || snapshots != st.Snapshots {
		w.fail("events tell of %d promotions, %d demotions, %d resyncs, %d snapshots; the totals are %d, %d, %d, %d",
			up, down, resyncs, snapshots, st.Promotions, st.Demotions, st.Resyncs, st.Snapshots)
	}
	if len(failing) > 0 {
		w.fail("still failing by the events: %v", slices.Collect(maps.Keys(failing)))
	}
	if got := w.rep.RequestStats(); got != st.Requests {
		w.fail("%+v requests, %+v are counted", got, st.Requests)
	}
}

// idle lets time pass in which nothing happens: nothing is shipped, and in the
// end nothing is asked at all.
func (w *world) idle(d time.Duration, nothing bool) {
	w.t.Helper()
	w.tally.idle++
	w.rep.ResetOperations()
	before := w.m.Stats()
	w.pass(d)
	if st := w.m.Stats(); nothing && (st.Promotions != before.Promotions || st.Warm+st.Hot != w.leased()) {
		w.fail("idle for %v: %+v, then %+v", d, before, st)
	}
	for _, op := range w.rep.Operations() {
		if nothing || op.Op == multidbtest.OpWrite && op.Level == 0 {
			w.fail("idle for %v: %v at %v", d, op, op.At.Format(time.TimeOnly))
		}
	}
}

// duringOutage writes while nothing reaches the replica, which must show.
func (w *world) duringOutage(s *subject) {
	if !w.usable(s) || !w.mayAcquire(s) || !s.exists {
		return
	}
	w.rest()
	w.log("outage")
	w.rep.Inject(multidbtest.Fault{Err: multidbtest.ErrInjected})
	w.faults, w.outage = true, true
	w.writeByPool(s)
	if s.states[s.cur].n == s.states[max(s.acked, 0)].n {
		return // all rolled back
	}
	began := time.Now()
	w.pass(2*w.limits.cold + time.Second)
	st := w.status(s)
	if !errors.Is(st.Err, multidbtest.ErrInjected) || st.Failures == 0 || st.Lag <= 0 || st.Lag > time.Since(began)+time.Second {
		w.fail("%s in an outage: error %v, %d failures, lag %v after %v", s.id, st.Err, st.Failures, st.Lag, time.Since(began))
	}
	if ok, worst := w.m.Healthy(0); ok || !slices.ContainsFunc(worst, func(x multidb.Status) bool { return x.ID == s.id }) {
		w.fail("%s in an outage: healthy %v, %d in trouble", s.id, ok, len(worst))
	}
}

// shutDown closes the Manager and holds it to what it says: what it does not name
// is durable, and what it names is not, or cannot be known to be.
func (w *world) shutDown() {
	if w.rng.IntN(4) > 0 {
		w.releaseAll()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+w.rng.IntN(120))*time.Second)
	leased := w.leased()
	err := w.m.Close(ctx)
	ended := ctx.Err()
	cancel()
	w.log("close, with %d leases, faults %v: %v", leased, w.faults, err)
	if (leased > 0 || w.withoutMissing(err) && !w.faults) && ended == nil {
		w.fail("close: %v", err)
	}
	w.joined.Wait()
	if ended != nil {
		if err == nil {
			w.fail("close: no error, although its context ended")
		}
		w.checkUndurable(err, false)
		w.releaseAll()
		w.heal()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err = w.m.Close(ctx); w.withoutMissing(err) {
			w.fail("close again: %v", err)
		}
	}
	synctest.Wait()
	w.lookAtFiles()
	w.takeIn()
	w.heal()
	w.checkUndurable(err, true)
}

// checkUndurable compares the databases that Close names with those that the
// replica does not have. Once it is finished it names no other without a reason.
func (w *world) checkUndurable(err error, finished bool) {
	w.t.Helper()
	named := map[multidb.ID]bool{}
	for _, e := range undurable(err) {
		named[e.ID] = true
	}
	faults := w.faults
	w.rep.ClearFaults() // to look at what is there; heal is told later
	for _, s := range w.sorted() {
		if !s.exists || s.moved || s.states[s.cur].n == 0 {
			continue
		}
		i, ok := w.restorable(s)
		durable := ok && s.states[i] == s.states[s.cur]
		switch {
		case !durable && !named[s.id] && !w.unseen(s):
			w.fail("close said nothing of %s: the replica has state %d of %d; it said %v", s.id, i, s.cur, err)
		case durable && named[s.id] && finished && !s.doubt:
			w.fail("close named %s, of which the replica has all: %v", s.id, err)
		case durable && finished:
			s.promise(s.cur)
		}
	}
	w.faults = faults
}

// withoutMissing reports whether an error of Close names a database that is there.
// Of one that was deleted it cannot know that nothing is missing.
func (w *world) withoutMissing(err error) bool {
	if err == nil {
		return false
	}
	all := undurable(err)
	for _, e := range all {
		if s := w.subjects[e.ID]; s.exists || !errors.Is(e, multidb.ErrMissing) {
			return true
		}
	}
	return len(all) == 0
}

// undurable is the errors of databases that are not durable.
func undurable(err error) []*multidb.Error {
	var one *multidb.Error
	if e, ok := err.(*multidb.Error); ok { //nolint:errorlint // every one of a tree is wanted, not the first
		if errors.Is(e, multidb.ErrNotDurable) {
			one = e
		}
	}
	if one != nil {
		return []*multidb.Error{one}
	}
	var all []*multidb.Error
	switch x := err.(type) {
	case interface{ Unwrap() []error }:
		for _, e := range x.Unwrap() {
			all = append(all, undurable(e)...)
		}
	case interface{ Unwrap() error }:
		all = undurable(x.Unwrap())
	}
	return all
}

// restart closes the Manager and starts the next one, with the state directory as
// it was left, without it, or with one of before.
func (w *world) restart() {
	w.shutDown()
	state, old := filepath.Join(w.dir, "state"), filepath.Join(w.dir, "old")
	var want []multidb.ID
	for st := range w.m.All() {
		want = append(want, st.ID)
	}
	kind := w.rng.IntN(6)
	must := func(err error) {
		if err != nil {
			w.fail("%v", err)
		}
	}
	untouched := true
	switch _, err := os.Stat(old); {
	case kind == 0:
		w.log("the state directory is lost")
		must(os.RemoveAll(state))
		untouched = false
		for _, s := range w.subjects {
			s.othersAt = time.Now() // a listing that fails may leave them out
		}
	case kind == 1 && err == nil:
		w.log("the state directory is an old one")
		must(os.RemoveAll(state))
		must(os.CopyFS(state, os.DirFS(old)))
		untouched = false
		for _, s := range w.subjects {
			s.old = true
			if !s.exists {
				w.shift(s) // it may be known again, until a scan says better
			}
		}
	case kind == 2 && err != nil:
		must(os.CopyFS(old, os.DirFS(state)))
	}
	quiet := true // nobody does anything while it is down
	for w.rng.IntN(2) == 0 {
		quiet = false
		s := w.sorted()[w.rng.IntN(len(w.subjects))]
		w.log("while it is down:")
		switch w.rng.IntN(4) {
		case 0:
			w.makeForeign(s)
		case 1:
			w.remove(s)
		default:
			w.writeForeign(s)
		}
	}
	for _, s := range w.subjects {
		w.stir(s)
		s.wroteAt = time.Time{} // a tier does not outlive its Manager
	}
	before := w.rep.RequestStats()
	rested := !slices.ContainsFunc(w.sorted(), func(s *subject) bool { return s.exists && w.unseen(s) })
	w.start()
	for _, s := range w.subjects {
		if s.moved && !w.listing.broken && w.listing.wholeSince(s.movedAt) {
			s.moved = false // the new Manager has nothing open
		}
	}
	w.settleGoroutines()
	if untouched {
		got := w.known()
		for _, id := range want {
			// What was never shipped is in no catalog: a listing finds it.
			if s := w.subjects[id]; s.exists && s.acked == s.cur && !slices.Contains(got, id) {
				w.fail("%s was known before the restart, and is not after", id)
			}
		}
		if n := w.rep.RequestStats(); quiet && rested && n != before {
			w.fail("a start with nothing to do made requests: %+v, then %+v", before, n)
		}
	}
}

// end is the end of every history.
func (w *world) end() {
	w.releaseAll()
	w.rest()
	w.shutDown()
	for _, s := range w.sorted() {
		if s.exists && s.states[s.cur].n != 0 && s.acked != s.cur {
			w.fail("closed, and %s is promised up to state %d of %d", s.id, s.acked, s.cur)
		}
	}
	if names := w.rep.Prefixes(); len(names) > len(w.subjects) {
		w.fail("prefixes of nobody: %v", fmt.Sprint(names))
	}
}
