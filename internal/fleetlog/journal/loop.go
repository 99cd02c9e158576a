package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// loop writes objects. It belongs to the goroutine of its Journal.
type loop struct {
	*Journal
	w       *fleetlog.Writer
	answers chan answer
	flying  map[uint64]*flight  // by number
	last    time.Time           // when the last object was begun
	acked   []time.Time         // of the objects from trim on
	larges  map[uint64][]uint64 // the numbers of the large files that an object names
	trim    uint64              // below which objects are old enough to go
	told    uint64              // the packed that the last object has
	gone    uint64              // below which they were deleted, or are being deleted
	left    bool                // the last object could not have all that was queued
	tries   int                 // that failed while the Journal was closing
	wg      sync.WaitGroup      // the requests under way
	cancel  context.CancelFunc
}

// flight is an object under way and the files in it.
type flight struct {
	*fleetlog.Flight
	writes []*write
	pause  pauses
}

// answer is what a request came to.
type answer struct {
	f       *flight
	op      fleetlog.Op
	outcome fleetlog.Outcome
	entry   *format.Entry
	err     error
}

// land waits for the requests under way, whose answers nobody waits for any more.
func (l *loop) land() {
	if l.cancel != nil {
		l.cancel()
	}
	go func() {
		for range l.answers { //nolint:revive // drained
		}
	}()
	l.wg.Wait()
	close(l.answers)
}

// run begins objects when they are due, and acknowledges them in order.
func (l *loop) run(ctx context.Context) error {
	ctx, l.cancel = context.WithCancel(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, closed := l.begin(ctx)
		if closed {
			return ErrClosed
		}
		timer.Reset(wait)
		select {
		case a := <-l.answers:
			if err := l.answered(ctx, a); err != nil {
				return err
			}
			if err := l.acknowledge(ctx); err != nil {
				return err
			} else if a.err == nil {
				l.tries = 0
			} else if l.givesUp(&l.tries) {
				return a.err
			}
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// idle is how long the loop sleeps when nothing is due.
const idle = time.Hour

// begin begins the objects that are due. It returns how long it is until one may be due,
// and whether all is written and nothing more will come.
func (l *loop) begin(ctx context.Context) (wait time.Duration, closed bool) {
	for {
		now := l.cfg.Now()
		l.mu.Lock()
		empty, hurry, closing, packed := len(l.queue) == 0, l.hurry, l.closing, l.packed
		l.mu.Unlock()
		if empty && !closing {
			wait, due := l.erasure(ctx, now, packed)
			if due {
				l.put(ctx, now)
			}
			return wait, false
		} else if empty {
			if !l.w.Idle() {
				return idle, false
			} else if packed <= l.told {
				return 0, true
			}
			// The next process need not read again what is in the prefixes.
			l.put(ctx, now)
			return idle, false
		}
		every := l.cfg.Interval
		if hurry {
			every = min(every, l.cfg.Soon)
		}
		since := now.Sub(l.last)
		if due := closing || l.left || l.last.IsZero() || since < 0 || since >= every; !due {
			return every - since, false
		}
		if !l.w.Room() {
			return idle, false // an answer comes first
		}
		l.last = now
		l.put(ctx, now)
	}
}

// maxForgets bounds the bytes that one footer has of prefixes that were erased.
const maxForgets = 4 << 20

// put begins one object with what is queued, as much of it as one may have: one file of
// each tenant, the rest comes with the next.
func (l *loop) put(ctx context.Context, now time.Time) {
	f := &flight{pause: pauses{most: l.cfg.MaxPause}}
	has := map[string]int{} // files of each tenant
	full := false
	var size, forgotten int64
	var rest []*write
	marks := l.marks()
	l.mu.Lock()
	for _, w := range l.queue {
		n := has[w.file.Prefix]
		has[w.file.Prefix]++ // of one that is left too, or a later one would overtake it
		large := len(f.writes) == format.MaxRecords || len(f.writes) > 0 && size+int64(len(w.file.Data)) > l.cfg.MaxObject
		if w.forget {
			forgotten += int64(len(w.file.Prefix) + 16 + 20*(len(marks)+len(w.below)))
			large = large || len(f.writes) > 0 && forgotten > maxForgets
		}
		if n > 0 || large {
			rest = append(rest, w)
			full = full || large || n > 1 // a second file is a matter of a moment, a third a backlog
			continue
		}
		f.writes = append(f.writes, w)
		size += int64(len(w.file.Data))
	}
	l.left = full
	if l.queue = rest; len(rest) == 0 {
		l.hurry = false
	}
	l.mu.Unlock()
	files := make([]format.File, 0, len(f.writes))
	var forgets []format.Forget
	var releases []int
	for _, w := range f.writes {
		if w.release != nil {
			releases = append(releases, w.release...)
			continue
		} else if w.forget {
			forgets = append(forgets, format.Forget{Prefix: w.file.Prefix, Below: merged(marks, w.below)})
			continue
		}
		files = append(files, w.file)
	}
	l.mu.Lock()
	packed := l.packed
	l.mu.Unlock()
	for len(l.acked) > 0 && l.trim < packed && now.Sub(l.acked[0]) >= l.cfg.Retention {
		l.acked, l.trim = l.acked[1:], l.trim+1
	}
	l.w.Unpacked(packed, l.trim)
	l.told = max(l.told, packed)
	slices.Sort(releases)
	began, err := l.w.Put(now.UnixMilli(), files, forgets, slices.Compact(releases))
	if err != nil { // a file that nothing can encode, which only a caller's mistake makes
		l.settle(f.writes, nil, err)
		return
	}
	f.Flight = began
	l.flying[began.Log.Seq] = f
	l.ask(ctx, f, 0)
}

// ask makes the next request of a flight, after a pause.
func (l *loop) ask(ctx context.Context, f *flight, pause time.Duration) {
	ask := f.Ask()
	if ask.Op == fleetlog.Nothing {
		return
	}
	seq, epoch := f.Log.Seq, f.Log.Epoch
	l.wg.Go(func() {
		a := answer{f: f, op: ask.Op}
		if a.err = l.pause(ctx, pause); a.err == nil {
			if ask.Op == fleetlog.Create {
				failpoint.Hit("fleetlog.put.before")
				a.outcome, a.err = l.req.create(ctx, ask)
				failpoint.Hit("fleetlog.put.after")
				if a.err = failpoint.Err("fleetlog.put.lost", a.err); a.err != nil {
					a.outcome = fleetlog.Unknown
				}
			} else {
				a.entry, a.err = l.req.entry(ctx, epoch, seq, 0)
			}
		}
		l.answers <- a
	})
}

// answered takes an answer to its flight, and asks on. An error ends the log.
func (l *loop) answered(ctx context.Context, a answer) error {
	if errors.Is(a.err, store.ErrNoConditionalWrites) {
		return a.err
	}
	var pause time.Duration
	switch {
	case a.op == fleetlog.Create:
		a.f.Answered(a.outcome)
	case errors.Is(a.err, untrusted.ErrDamaged) || errors.Is(a.err, format.ErrNewer):
		a.f.Refuse(a.err)
	case a.err == nil:
		a.f.Looked(a.entry)
	}
	if a.err != nil {
		pause = a.f.pause.take()
		l.cfg.Logger.Warn("multidb: the fleet log is not answered", "object", format.ObjectName(a.f.Log.Epoch, a.f.Log.Seq), "again", pause, "err", a.err)
		l.failed(a.err)
	} else {
		l.mu.Lock()
		l.failing = nil
		l.mu.Unlock()
	}
	l.ask(ctx, a.f, pause)
	return nil
}

// acknowledge answers for the objects that are durable by now.
func (l *loop) acknowledge(ctx context.Context) error {
	for log := l.w.Acknowledged(); log != nil; log = l.w.Acknowledged() {
		f := l.flying[log.Seq]
		delete(l.flying, log.Seq)
		l.mu.Lock()
		l.stats.Acked, l.stats.Waiting = log.Seq, l.cfg.Now()
		l.stats.Objects++
		l.stats.Files += int64(len(log.Records))
		for _, w := range f.writes {
			l.stats.Bytes += max(w.file.Size, int64(len(w.file.Data)))
			if w.file.Large != 0 {
				l.larges[log.Seq] = append(l.larges[log.Seq], w.file.Large)
			}
		}
		l.keep[log.Seq] = len(f.writes)
		for _, w := range f.writes {
			if w.release != nil { // which no prefix is to have
				l.dropLocked(log.Seq)
				l.packLocked()
			}
		}
		l.pinLocked(log)
		l.mu.Unlock()
		l.acked = append(l.acked, l.cfg.Now())
		l.settle(f.writes, log, nil)
	}
	l.delete(ctx)
	return l.w.Err()
}

// deleted is how many objects one request deletes.
const deleted = 1000

// delete deletes objects that an acknowledged one says nobody needs (F4), up to the last
// thousand at once. What a failure leaves is void, and is deleted with its log.
func (l *loop) delete(ctx context.Context) {
	to := l.w.Deletable()
	l.mu.Lock()
	forced := l.gone < l.forced && to >= l.forced
	l.deletable = to
	l.mu.Unlock()
	if to < l.gone+deleted/10 && !forced {
		return
	}
	var names []string
	for ; l.gone < to && len(names) < deleted; l.gone++ {
		names = append(names, format.ObjectName(l.w.Epoch(), l.gone))
		for _, number := range l.larges[l.gone] {
			names = append(names, format.LargeName(l.w.Epoch(), number))
		}
		delete(l.larges, l.gone)
	}
	l.wg.Go(func() {
		failpoint.Hit("fleetlog.delete.before")
		err := l.req.store.Delete(ctx, names...)
		failpoint.Hit("fleetlog.delete.after")
		if err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("multidb: objects of the fleet log cannot be deleted", "first", names[0], "err", err)
		}
	})
}

// settle answers for files, which are in an object if there is no error.
func (l *loop) settle(writes []*write, log *format.Log, err error) {
	l.mu.Lock()
	for _, w := range writes {
		delete(l.unacked, w)
		l.bytes -= int64(len(w.file.Data))
	}
	l.changedLocked()
	l.mu.Unlock()
	for _, w := range writes {
		var at Place
		if log != nil {
			rec, _ := log.Find(w.file.Prefix)
			at = Place{log.Epoch, log.Seq, rec.Offset}
		}
		w.done(at, err)
	}
}
