package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// pin is an object that makes records of former logs void (F9). It counts as not unpacked
// until these logs are finished: who reads them must read it too.
type pin struct {
	seq    uint64
	epochs []format.Mark
}

// Forget makes all void that the logs have of a prefix, this one and those that were taken
// over, up to what Append was given before. done is called as that of Append; when it is
// called without an error nobody reads any of it any more.
func (j *Journal) Forget(ctx context.Context, prefix string, done func(Place, error)) error {
	if err := j.join(ctx); err != nil { // the logs that are named have been read by then
		return err
	}
	below, err := j.otherEnds(ctx)
	if err != nil {
		return err
	}
	if n := len(j.marks()) + len(below); n > format.MaxMarks {
		return fmt.Errorf("%d logs are not finished, more than %d: nothing can be erased before some are", n, format.MaxMarks)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return j.err
	case j.closing:
		return ErrClosed
	}
	w := &write{file: format.File{Record: format.Record{Prefix: prefix}}, done: done, forget: true, below: below}
	for _, m := range below {
		j.others[m.Epoch] = max(j.others[m.Epoch], m.Seq)
	}
	if len(j.unacked) == 0 {
		j.stats.Waiting = j.cfg.Now()
	}
	j.queue = append(j.queue, w)
	j.unacked[w] = struct{}{}
	j.hurry = true
	j.hurryLocked()
	j.poke()
	return nil
}

// marks are the ends of the logs that were taken over and are not finished.
func (j *Journal) marks() (marks []format.Mark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.tails {
		if s := t.Seal(); s != nil {
			marks = append(marks, format.Mark{Epoch: s.Epoch, Seq: s.Seq})
		}
	}
	slices.SortFunc(marks, func(a, b format.Mark) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return marks
}

// pinLocked takes what an acknowledged object makes void.
func (j *Journal) pinLocked(log *format.Log) {
	for _, g := range log.Forgets {
		j.pins = append(j.pins, pin{log.Seq, g.Below})
		j.forced = max(j.forced, log.Seq)
	}
	j.unpinLocked()
}

// unpinLocked lets go of the objects all of whose logs are finished.
func (j *Journal) unpinLocked() {
	if len(j.pins) == 0 {
		return
	}
	former := map[uint64]bool{}
	for _, t := range j.tails {
		if s := t.Seal(); s != nil {
			former[s.Epoch] = true
		}
	}
	for epoch := range j.others {
		former[epoch] = true
	}
	j.pins = slices.DeleteFunc(j.pins, func(p pin) bool {
		if slices.ContainsFunc(p.epochs, func(m format.Mark) bool { return former[m.Epoch] }) {
			return false
		}
		j.dropLocked(p.seq)
		return true
	})
	j.packLocked()
}

// erasure says whether an object is due though nothing is queued, so that it carries a trim
// beyond what was erased; or how long it is until that may be.
func (l *loop) erasure(ctx context.Context, now time.Time, packed uint64) (wait time.Duration, due bool) {
	l.mu.Lock()
	forced := l.forced
	l.mu.Unlock()
	switch {
	case l.gone >= forced, packed < forced, !l.w.Idle():
		return idle, false // or what it waits for wakes the loop
	case l.w.Deletable() >= forced:
		l.delete(ctx)
		return idle, false
	}
	if n := forced - l.trim; l.trim < forced && n <= uint64(len(l.acked)) {
		if left := l.cfg.Retention - now.Sub(l.acked[n-1]); left > 0 {
			return min(left, idle), false
		}
	}
	return idle, true
}

// Held is an object of the store that has bytes of a prefix, or the record of such.
type Held struct {
	Names   []string // its own, and that of a large file
	Epoch   uint64
	Seq     uint64
	Created time.Time
	Void    bool // no reader takes it any more (F9)
}

// Holds lists what is there of a prefix, in all logs, void or not: by one listing of the
// whole directory, and a GET for each object. What may be deleted of that, as nobody reads
// it any more, is deleted (F4, F8).
func (j *Journal) Holds(ctx context.Context, prefix string) (held []Held, err error) {
	r := requests{store: j.cfg.Store, prefix: prefix}
	look := fleetlog.NewChange(j.cfg.Life, 0, nil, func(*format.Map) error { return errLooked })
	if _, err := r.change(ctx, look); !errors.Is(err, errLooked) {
		return nil, err
	}
	m := look.Map()
	objects := map[uint64][]fleetlog.Listed{}
	for o, err := range j.cfg.Store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		if epoch, seq, ok := format.ParseObjectName(o.Name); ok {
			objects[epoch] = append(objects[epoch], fleetlog.Listed{Seq: seq, Size: o.Size})
		}
	}
	var mu sync.Mutex
	var logs []*format.Log
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for epoch, listed := range objects {
		if m.Finished(epoch) && len(listed) == 1 {
			continue // its seal
		}
		for _, o := range listed {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				e, err := r.entry(ctx, epoch, o.Seq, o.Size)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
				} else if e != nil && e.Log != nil && (len(e.Log.Records) > 0 || len(e.Log.Forgets) > 0) {
					logs = append(logs, e.Log)
				}
			})
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	j.mu.Lock()
	own, deletable := j.stats.Epoch, j.deletable
	j.mu.Unlock()
	void := fleetlog.NewForgotten(logs)
	var names []string
	for _, l := range logs {
		for _, rec := range l.Records {
			h := Held{
				Names: []string{format.ObjectName(l.Epoch, l.Seq)}, Epoch: l.Epoch, Seq: l.Seq,
				Created: time.UnixMilli(l.Created), Void: m.Finished(l.Epoch) || void.Has(l.Epoch, l.Seq, prefix),
			}
			if rec.Large != 0 {
				h.Names = append(h.Names, format.LargeName(l.Epoch, rec.Large))
			}
			if m.Finished(l.Epoch) || l.Epoch == own && l.Seq < deletable {
				names = append(names, h.Names...)
			} else {
				held = append(held, h)
			}
		}
	}
	if len(names) > 0 {
		err = j.cfg.Store.Delete(ctx, names...)
	}
	return held, err
}

// Retention is for how long an object stays after it was acknowledged.
func (j *Journal) Retention() time.Duration { return j.cfg.Retention }
