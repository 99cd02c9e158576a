package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// operate does one random thing.
func (w *world) operate() {
	all := w.sorted()
	s := all[w.rng.IntN(len(all))]
	switch k := w.rng.IntN(100); {
	case k < 24:
		w.writeByPool(s)
	case k < 31:
		w.hold(s)
	case k < 38:
		w.writeHeld()
	case k < 45:
		w.releaseOne()
	case k < 47:
		w.acquireTooMany()
	case k < 54:
		w.syncNow(s)
	case k < 61:
		w.syncLater(s)
	case k < 69:
		w.writeForeign(s)
	case k < 72:
		w.makeForeign(s)
	case k < 75:
		w.remove(s)
	case k < 77:
		w.rename(s, all[w.rng.IntN(len(all))])
	case k < 84:
		w.injectFault()
	case k < 88:
		w.heal()
	case k < 90:
		w.listing.setBroken(true)
		w.log("listings fail")
	case k < 92:
		w.listing.setBroken(false)
	case k < 94:
		w.restart()
	case k < 96:
		w.compareRestore(s)
	case k < 97:
		w.restoreInPlace(s)
	case k < 98:
		w.duringOutage(s)
	default:
		w.rest()
	}
}

// usable reports whether the Manager can be asked for the database: it knows of
// the last change of its files, and nothing that it still has open is of before.
func (w *world) usable(s *subject) bool {
	if s.moved && w.listing.wholeSince(s.movedAt) && time.Since(s.movedAt) > w.limits.atRest() {
		s.moved = false
	}
	return !s.moved
}

// shift notes that the files of a database became others.
func (w *world) shift(s *subject) {
	s.moved, s.movedAt, s.doubt, s.quietAt, s.othersAt = true, time.Now(), true, time.Now(), time.Now()
	s.wroteAt = time.Time{}
}

// unseen reports whether no scan can have seen what others did to a database.
func (w *world) unseen(s *subject) bool { return !w.listing.wholeSince(s.othersAt) }

func (w *world) stir(s *subject) { s.doubt, s.quietAt = true, time.Now() }

// leased is how many databases the application holds.
func (w *world) leased() (n int) {
	for _, s := range w.subjects {
		if len(s.held) > 0 {
			n++
		}
	}
	return n
}

// mayAcquire reports whether there is a place for the database.
func (w *world) mayAcquire(s *subject) bool { return len(s.held) > 0 || w.leased() < w.limits.maxOpen }

// acquire takes a lease, which works unless a missing file is to come from a
// replica that fails. The schema is made by the hook.
func (w *world) acquire(s *subject) (multidb.Handle, bool) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	w.stir(s)
	existed := s.exists
	h, err := w.m.Acquire(ctx, s.id)
	w.stamps.touch(w.t, s.path+"-wal")
	if err != nil {
		if w.limits.restoreOpen && w.faults {
			// The replica may hold it up, or whatever has the last place in the pool.
			w.log("acquire %s: %v", s.id, err)
			// Its opening goes on. It ends here, whichever way, as the model and
			// the open hook must not be at work at once.
			w.heal()
			w.settleGoroutines()
			s.othersAt = time.Now()
			return h, false
		}
		w.fail("acquire %s: %v", s.id, err)
	}
	if !existed {
		s.othersAt = time.Time{} // it is known, since it was opened
	}
	return h, true
}

func (w *world) commitSome(s *subject, db *sql.DB, n int) {
	for range n {
		if err := w.commit(w.t.Context(), s, db); err != nil {
			w.fail("%s: a write of the application: %v", s.id, err)
		}
		w.tally.commits++
	}
	w.stamps.touch(w.t, s.path+"-wal")
	w.stir(s)
	s.old = false
}

func (w *world) writeByPool(s *subject) {
	if !w.usable(s) || !w.mayAcquire(s) {
		return
	}
	n := 1 + w.rng.IntN(4)
	w.log("write %s, %d times", s.id, n)
	h, ok := w.acquire(s)
	if !ok {
		return
	}
	was := s.cur
	w.commitSome(s, h.DB(), n)
	h.Release()
	if s.cur != was { // not all were rolled back
		s.wroteAt = time.Now()
	}
}

func (w *world) hold(s *subject) {
	if !w.usable(s) || !w.mayAcquire(s) || len(s.held) > 2 {
		return
	}
	w.log("hold %s", s.id)
	if h, ok := w.acquire(s); ok {
		s.held = append(s.held, h)
	}
}

// anyHeld is a database that the application holds, or nil.
func (w *world) anyHeld() *subject {
	var held []*subject
	for _, s := range w.sorted() {
		if len(s.held) > 0 {
			held = append(held, s)
		}
	}
	if len(held) == 0 {
		return nil
	}
	return held[w.rng.IntN(len(held))]
}

func (w *world) writeHeld() {
	if s := w.anyHeld(); s != nil {
		n := 1 + w.rng.IntN(3)
		w.log("write %s through a lease, %d times", s.id, n)
		w.commitSome(s, s.held[w.rng.IntN(len(s.held))].DB(), n)
	}
}

func (w *world) releaseOne() {
	if s := w.anyHeld(); s != nil {
		w.log("release %s", s.id)
		w.release(s)
	}
}

func (w *world) release(s *subject) {
	h := s.held[len(s.held)-1]
	s.held = s.held[:len(s.held)-1]
	h.Release()
	w.stir(s)
}

func (w *world) releaseAll() {
	for _, s := range w.subjects {
		for len(s.held) > 0 {
			w.release(s)
		}
	}
}

// acquireTooMany finds every place taken, and no lease is closed for it.
func (w *world) acquireTooMany() {
	if w.leased() < w.limits.maxOpen {
		return
	}
	for _, s := range w.sorted() {
		if len(s.held) > 0 || !w.usable(s) || !s.exists {
			continue
		}
		d := time.Duration(1+w.rng.IntN(3000)) * time.Millisecond
		w.log("acquire %s, with every place taken", s.id)
		ctx, cancel := context.WithTimeout(w.t.Context(), d)
		_, unknown := w.m.Status(s.id)
		began := time.Now()
		_, err := w.m.Acquire(ctx, s.id)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) < d {
			w.fail("acquire %s with %d places taken of %d: %v after %v", s.id, w.leased(), w.limits.maxOpen, err, time.Since(began))
		}
		if _, err := w.m.Status(s.id); err != nil && unknown == nil {
			w.fail("%s was known before an Acquire that waited in vain, and is not after: %v", s.id, err)
		}
		return
	}
}

// syncNow waits for durability, and fails only if the replica may.
func (w *world) syncNow(s *subject) {
	if !w.usable(s) || !s.exists {
		return
	}
	d := time.Duration(1+w.rng.IntN(60_000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	i := s.cur
	w.stir(s)
	pos, err := w.m.Sync(ctx, s.id)
	w.log("sync %s: %v %v", s.id, pos.TXID, err)
	w.tally.syncs++
	switch {
	case err == nil:
		s.promise(i)
	case errors.Is(err, multidb.ErrNotFound) && w.unseen(s):
	case errors.Is(err, context.DeadlineExceeded) && d < time.Minute:
	case !w.faults:
		w.fail("sync %s of a healthy replica: %v", s.id, err)
	}
}

// syncLater goes on beside whatever comes next.
func (w *world) syncLater(s *subject) {
	if !s.exists || s.moved {
		return
	}
	d := time.Duration(1+w.rng.IntN(10_000)) * time.Millisecond
	w.log("sync %s within %v, not waited for", s.id, d)
	i, life, m := s.cur, s.movedAt, w.m
	w.stir(s)
	w.tally.syncs++
	w.joined.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		if _, err := m.Sync(ctx, s.id); err == nil {
			w.later(func() {
				if s.movedAt == life { // otherwise nobody knows which file it was of
					s.promise(i)
				}
			})
		}
	})
}

// writeForeign writes as another process would: with checkpoints of its own, and
// it may be the last to close.
func (w *world) writeForeign(s *subject) {
	if !s.exists || s.states[s.cur].n == 0 {
		return
	}
	w.log("another program writes %s", s.id)
	db, err := foreign(s.path, fmt.Sprintf("&_pragma=wal_autocheckpoint(%d)", []int{0, 1, 20, 1000}[w.rng.IntN(4)]))
	if err != nil {
		w.fail("%v", err)
	}
	w.commitSome(s, db, w.rng.IntN(5))
	if mode := w.rng.IntN(8); mode < 4 {
		q := "PRAGMA wal_checkpoint(" + []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[mode] + ")"
		if _, err := db.Exec(q); err != nil {
			w.fail("%s: %s: %v", s.id, q, err)
		}
	}
	if err := db.Close(); err != nil {
		w.fail("%s: %v", s.id, err)
	}
	w.stamps.touch(w.t, s.path, s.path+"-wal")
	s.othersAt = time.Now()
}

// makeForeign is a database that another program makes.
func (w *world) makeForeign(s *subject) {
	if s.exists || len(s.held) > 0 || !w.usable(s) && w.rng.IntN(2) == 0 {
		return
	}
	w.log("another program makes %s", s.id)
	s.exists, s.rows = true, map[int]row{}
	s.cur = s.may(0, s.rows)
	db, err := foreign(s.path, "&_pragma=journal_mode(wal)")
	if err != nil {
		w.fail("%v", err)
	}
	if err := w.born(w.t.Context(), s, db); err != nil {
		w.fail("%s: %v", s.id, err)
	}
	w.commitSome(s, db, w.rng.IntN(3))
	if err := db.Close(); err != nil {
		w.fail("%s: %v", s.id, err)
	}
	w.stamps.touch(w.t, s.path, s.path+"-wal")
	w.shift(s)
}

var suffixes = []string{"-shm", "-wal", ""}

// remove deletes a database that the application does not hold.
func (w *world) remove(s *subject) {
	if !s.exists || len(s.held) > 0 || !w.usable(s) {
		return
	}
	w.log("delete %s", s.id)
	for _, suffix := range suffixes {
		if err := os.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.fail("%v", err)
		}
	}
	s.exists = false
	w.shift(s)
}

// rename gives a database that the application does not hold another ID.
func (w *world) rename(s, to *subject) {
	if !s.exists || to.exists || len(s.held) > 0 || !w.usable(s) || !w.usable(to) {
		return
	}
	w.log("rename %s to %s", s.id, to.id)
	for _, suffix := range suffixes {
		err := os.Rename(s.path+suffix, to.path+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.fail("%v", err)
		}
		w.stamps.renamed(s.path+suffix, to.path+suffix)
	}
	to.exists, to.rows = true, s.rows
	to.cur = to.may(s.states[s.cur].n, s.rows)
	s.exists = false
	w.shift(s)
	w.shift(to)
}

// injectFault makes the replica fail in some way, for one database or for all.
func (w *world) injectFault() {
	f := multidbtest.Fault{Times: w.rng.IntN(4)}
	kind := w.rng.IntN(6)
	switch kind {
	case 0:
		f.Err = multidbtest.ErrInjected
	case 1:
		f.Op, f.LostAnswer = multidbtest.OpWrite, true
	case 2:
		f.Op, f.Delay = multidbtest.OpWrite, time.Duration(w.rng.IntN(5000))*time.Millisecond
	case 3:
		f.Hang, f.Err = true, multidbtest.ErrInjected
	case 4:
		f.LostAnswer, f.Delay = true, time.Duration(w.rng.IntN(2000))*time.Millisecond
	case 5:
		f.Op, f.Err = []multidbtest.Op{multidbtest.OpList, multidbtest.OpDelete, multidbtest.OpOpen, multidbtest.OpReadMetadata, multidbtest.OpWriteMetadata}[w.rng.IntN(5)], multidbtest.ErrInjected
	}
	if w.rng.IntN(2) == 0 {
		f.Prefix = string(w.sorted()[w.rng.IntN(len(w.subjects))].id)
	}
	w.log("fault: kind %d, op %q, prefix %q, %d times, delay %v", kind, f.Op, f.Prefix, f.Times, f.Delay)
	w.rep.Inject(f)
	w.faults = true
}

// heal ends all faults. Requests that hang end with their error, and the runs
// that made them fail, so that a while must pass until all is well.
func (w *world) heal() {
	if w.faults {
		w.log("the replica is well")
		w.faultAt = time.Now()
	}
	w.rep.ClearFaults()
	w.faults, w.outage = false, false
}

// compareRestore restores beside all that goes on.
func (w *world) compareRestore(s *subject) {
	if w.faults {
		return
	}
	if _, err := w.m.Status(s.id); err != nil && !errors.Is(err, multidb.ErrNotFound) {
		w.fail("status of %s: %v", s.id, err)
	}
	w.restorable(s)
}

// restoreInPlace deletes a database and puts the replica's in its place.
func (w *world) restoreInPlace(s *subject) {
	if w.faults || s.acked < 0 {
		return
	}
	if w.remove(s); s.exists {
		return
	}
	i, _ := w.restorable(s)
	if err := w.m.Restore(w.t.Context(), s.id, multidb.RestoreOptions{OutputPath: s.path}); err != nil {
		w.fail("restore %s in place: %v", s.id, err)
	}
	w.log("restored %s in place", s.id)
	w.stamps.touch(w.t, s.path)
	db, err := foreign(s.path, "")
	if err != nil {
		w.fail("%v", err)
	}
	c, rows, err := contentOf(w.t.Context(), db)
	if err = errors.Join(err, db.Close()); err != nil {
		w.fail("%s: %v", s.id, err)
	}
	if s.find(c) != i {
		w.fail("%s: restored in place to n %d, beside it to n %d", s.id, c.n, s.states[i].n)
	}
	s.exists, s.cur, s.rows = true, i, rows
	w.stamps.touch(w.t, s.path, s.path+"-wal")
	w.shift(s)
}
