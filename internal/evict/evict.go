// Package evict keeps the local files of a fleet within a limit: it deletes those that were
// not used for longest, once the replica is proved to have all of them, and makes whoever is
// about to bring one back wait until there is room. Safe for concurrent use.
package evict

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
)

// Config is what an Evictor works with.
type Config struct {
	Fleet   *fleet.Fleet // with a MaxDisk
	MaxDisk int64        // in bytes
	Workers int          // so many files are deleted at once
}

const (
	pause    = 250 * time.Millisecond // after nothing could be deleted
	patience = 30 * time.Second       // for one deletion
)

// Evictor makes room. A nil one is that of a disk without a limit.
type Evictor struct {
	cfg    Config
	vacate func(ctx context.Context, e *fleet.Entry) (begun bool, err error)
	open   func() int
	wake   chan struct{}

	mu      sync.Mutex
	queue   []*waiter // for room within the limit, in the order in which they came
	beyond  []*waiter // for room that was asked for beyond it
	squeeze int64     // bytes that are to be deleted beyond it, for which nobody waits
	stopped bool      // nothing is deleted any more, and nobody waits
	stats   Stats
}

// waiter is somebody who needs room for so many bytes.
type waiter struct {
	size int64 // that are still needed
	done chan struct{}
	gone bool // it waits no more
}

// Stats is what an Evictor did.
type Stats struct {
	Limit, Used int64 // in bytes
	Evictions   int64
	Failures    int64 // files that could not be deleted: wanted again, or not all of it at the replica
}

// New returns an Evictor at rest.
func New(cfg Config) *Evictor { return &Evictor{cfg: cfg, wake: make(chan struct{}, 1)} }

// SetPool says, before anything else is called, what deletes the local file of a database that
// nobody uses, where begun is false if somebody does; and how many databases are open now.
func (v *Evictor) SetPool(vacate func(ctx context.Context, e *fleet.Entry) (begun bool, err error), open func() int) {
	if v != nil {
		v.vacate, v.open = vacate, open
	}
}

// Stats returns what happened so far.
func (v *Evictor) Stats() Stats {
	if v == nil {
		return Stats{}
	}
	_, used := v.over(0)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.stats
	s.Limit, s.Used = v.cfg.MaxDisk, used
	return s
}

// reserve is how much of the disk is kept free, so that who brings a database back seldom has
// to wait.
func (v *Evictor) reserve() int64 { return v.cfg.MaxDisk / 20 }

// slack is how much of that is given to nobody: logs grow before anybody looks at them.
func (v *Evictor) slack() int64 { return v.cfg.MaxDisk / 100 }

// over is by how many bytes all is too large if size more are to be had, and how large it is.
func (v *Evictor) over(size int64) (over, used int64) {
	open := 0
	if v.open != nil {
		open = v.open()
	}
	return v.cfg.Fleet.DiskOver(size, open)
}

// Poke says that there may be less room than before. It blocks nobody.
func (v *Evictor) Poke() {
	if v == nil {
		return
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Room returns when a file of that many bytes fits, or when nothing can be deleted to make
// it fit: a database that is larger than the limit works all the same, and so does a limit
// smaller than what is leased. Who comes first is first served. The error is that of ctx.
func (v *Evictor) Room(ctx context.Context, size int64) (release func(), err error) {
	if v == nil {
		return func() {}, nil
	}
	release = func() {
		v.cfg.Fleet.Unreserve(size)
		v.grant(false)
		v.Poke() // what was made counts now
	}
	w := &waiter{size: size, done: make(chan struct{})}
	v.mu.Lock()
	v.queue = append(v.queue, w)
	v.mu.Unlock()
	v.grant(false)
	if over, _ := v.over(v.reserve() / 2); over > 0 {
		v.Poke()
	}
	select {
	case <-w.done:
		return release, nil
	default:
		v.Poke()
	}
	select {
	case <-w.done:
		return release, nil
	case <-ctx.Done():
	}
	if !v.leave(&v.queue, w) {
		release() // it was granted at the last moment
	} else {
		v.grant(false) // whoever is behind may fit
	}
	return nil, context.Cause(ctx)
}

// Full is called where the disk is full although it is within the limit: it makes room for
// a file of that many bytes, and some, as far as something can be deleted. The error is that
// of ctx.
func (v *Evictor) Full(ctx context.Context, size int64) error {
	if v == nil {
		return nil
	}
	w := &waiter{size: 2*size + v.reserve()/10, done: make(chan struct{})}
	v.mu.Lock()
	if v.stopped {
		close(w.done)
	} else {
		v.beyond = append(v.beyond, w)
	}
	v.mu.Unlock()
	v.Poke()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		v.leave(&v.beyond, w)
		return context.Cause(ctx)
	}
}

// Squeeze is Full where nobody waits: somebody else has found the disk full.
func (v *Evictor) Squeeze() {
	if v == nil {
		return
	}
	v.mu.Lock()
	v.squeeze = v.reserve()
	v.mu.Unlock()
	v.Poke()
}

// leave takes a waiter out of a queue; false: it has got what it waited for.
func (v *Evictor) leave(queue *[]*waiter, w *waiter) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-w.done:
		return false
	default:
	}
	w.gone = true
	if i := slices.Index(*queue, w); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
	}
	return true
}

// grant lets those go on who have waited for longest, as far as there is room; force: all of
// them, as nothing can be deleted. The fleet is asked without the lock, as it may tell of
// events then, of which whoever is told may come here.
func (v *Evictor) grant(force bool) {
	for {
		v.mu.Lock()
		force = force || v.stopped
		if force {
			for _, w := range v.beyond {
				close(w.done)
			}
			v.beyond, v.squeeze = nil, 0
		}
		if len(v.queue) == 0 {
			v.mu.Unlock()
			return
		}
		w := v.queue[0]
		v.queue = slices.Delete(v.queue, 0, 1)
		v.mu.Unlock()

		over, _ := v.over(w.size + v.slack())
		granted := (over <= 0 || force) && v.cfg.Fleet.TryReserve(w.size, force)

		v.mu.Lock()
		gone := w.gone
		switch {
		case gone:
		case granted:
			close(w.done)
		default:
			v.queue = slices.Insert(v.queue, 0, w)
		}
		again := gone || granted || v.stopped // it has stopped meanwhile: nobody comes back here
		v.mu.Unlock()
		if gone && granted {
			v.cfg.Fleet.Unreserve(w.size)
		}
		if !again {
			return
		}
	}
}

// freed notes that a file of that many bytes was deleted.
func (v *Evictor) freed(size int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.squeeze = max(v.squeeze-size, 0)
	v.beyond = slices.DeleteFunc(v.beyond, func(w *waiter) bool {
		if w.size -= size; w.size > 0 {
			return false
		}
		close(w.done)
		return true
	})
}

// excess is how many bytes are to be deleted now.
func (v *Evictor) excess() (over int64) {
	v.mu.Lock()
	need, beyond := int64(0), v.squeeze
	for _, w := range v.queue {
		need += w.size
	}
	for _, w := range v.beyond {
		beyond += w.size
	}
	v.mu.Unlock()
	over, _ = v.over(max(need+v.slack(), v.reserve()))
	return max(over, beyond)
}

// Run makes room whenever there is too little, until ctx ends.
func (v *Evictor) Run(ctx context.Context) {
	if v == nil {
		return
	}
	r := run{v: v, ended: make(chan ended), busy: map[*fleet.Entry]int64{}}
	defer func() {
		for len(r.busy) > 0 {
			r.end(<-r.ended)
		}
		v.mu.Lock()
		v.stopped = true
		v.mu.Unlock()
		v.grant(true)
	}()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		v.grant(false)
		if excess := v.excess(); excess > 0 && !r.resting {
			r.begin(ctx, excess)
			if len(r.busy) == 0 || r.failed > 2*v.cfg.Workers {
				// What is leased now, or cannot be shipped now, can perhaps be deleted later.
				r.resting, r.failed = true, 0
				v.grant(true)
				retry.Reset(pause)
			}
		}
		select {
		case <-v.wake:
		case end := <-r.ended:
			r.end(end)
		case <-retry.C:
			r.resting = false
		case <-ctx.Done():
			return
		}
		if r.resting {
			if over, _ := v.over(0); over <= 0 {
				v.grant(false)
			}
		}
	}
}

// run is what is under way in Run.
type run struct {
	v       *Evictor
	ended   chan ended
	busy    map[*fleet.Entry]int64 // what is being deleted, and how large it is
	bytes   int64                  // of all that
	failed  int                    // deletions since the last that worked
	resting bool                   // nothing could be deleted a moment ago
}

type ended struct {
	e  *fleet.Entry
	ok bool
}

// begin begins to delete files, until those that are being deleted are enough.
func (r *run) begin(ctx context.Context, excess int64) {
	free := r.v.cfg.Workers - len(r.busy)
	if free <= 0 || r.bytes >= excess {
		return
	}
	victims, sizes := r.v.cfg.Fleet.Victims(free + len(r.busy))
	for i, e := range victims {
		if free == 0 || r.bytes >= excess {
			return
		}
		if _, busy := r.busy[e]; busy {
			continue
		}
		free--
		r.busy[e] = sizes[i]
		r.bytes += sizes[i]
		go func() { r.ended <- ended{e, r.v.evict(ctx, e)} }()
	}
}

// end notes that one was deleted, or was not.
func (r *run) end(end ended) {
	size := r.busy[end.e]
	r.bytes -= size
	delete(r.busy, end.e)
	if !end.ok {
		r.failed++
		return
	}
	r.failed, r.resting = 0, false
	r.v.freed(max(size, 1))
}

func (v *Evictor) evict(ctx context.Context, e *fleet.Entry) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun, err := v.vacate(ctx, e)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case begun && err == nil:
		v.stats.Evictions++
		return true
	case begun:
		v.stats.Failures++
	}
	v.cfg.Fleet.Spare(e)
	return false
}
