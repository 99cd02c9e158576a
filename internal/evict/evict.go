// Package evict keeps the local files of a fleet within a limit: it deletes those that were
// not used for longest, once the replica is proved to have all of them, and makes whoever is
// about to bring one back wait until there is room. Safe for concurrent use.
package evict

import (
	"context"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleet"
)

// Config is what an Evictor works with.
type Config struct {
	Fleet *fleet.Fleet // with a MaxDisk
	// Vacate deletes the local file of a database that nobody uses; begun is false if somebody
	// does.
	Vacate  func(ctx context.Context, e *fleet.Entry) (begun bool, err error)
	MaxDisk int64 // in bytes
	Workers int   // so many files are deleted at once
	// Pause is how long nothing is tried after a round in which nothing could be deleted, and
	// Patience how long one deletion may take.
	Pause, Patience time.Duration
}

// Evictor makes room.
type Evictor struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex
	rounds chan struct{} // closed at the end of the round in progress, or of the next one
	made   bool          // the last round has made room
	need   int64         // bytes that are waited for
	wanted int64         // and that were asked for beyond the limit
	stats  Stats
}

// Stats is what an Evictor did.
type Stats struct {
	Evictions int64
	Failures  int64 // files that could not be deleted: wanted again, or not all of it at the replica
}

// New returns an Evictor at rest.
func New(cfg Config) *Evictor {
	return &Evictor{cfg: cfg, wake: make(chan struct{}, 1), rounds: make(chan struct{})}
}

// Stats returns what happened so far.
func (v *Evictor) Stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stats
}

// reserve is how much of the disk is kept free, so that who brings a database back seldom has
// to wait.
func (v *Evictor) reserve() int64 { return v.cfg.MaxDisk / 20 }

// Poke says that there may be less room than before. It blocks nobody.
func (v *Evictor) Poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Room returns when a file of that many bytes fits, or when nothing can be deleted to make
// it fit: a database that is larger than the limit works all the same, and so does a limit
// smaller than what is leased. The error is that of ctx.
func (v *Evictor) Room(ctx context.Context, size int64) (release func(), err error) {
	release = func() {
		v.cfg.Fleet.Unreserve(size)
		v.Poke() // what was made counts now
	}
	for force := false; ; {
		if v.cfg.Fleet.TryReserve(size, force) {
			if over, _ := v.cfg.Fleet.DiskOver(v.reserve() / 2); over > 0 {
				v.Poke()
			}
			return release, nil
		}
		if force, err = v.round(ctx, size, 0); err != nil {
			return nil, err
		}
	}
}

// Full is called where the disk is full although it is within the limit: it makes room for
// a file of that many bytes, and some. The error is that of ctx.
func (v *Evictor) Full(ctx context.Context, size int64) error {
	_, err := v.round(ctx, 0, 2*size+v.reserve()/10)
	return err
}

// round waits for the end of a round that makes room for need bytes within the limit, and
// wanted ones beyond it. stuck: nothing could be deleted.
func (v *Evictor) round(ctx context.Context, need, wanted int64) (stuck bool, err error) {
	v.mu.Lock()
	v.need += need
	v.wanted += wanted
	done := v.rounds
	v.mu.Unlock()
	v.Poke()
	select {
	case <-done:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.made, nil
}

// Run makes room whenever there is too little, until ctx ends.
func (v *Evictor) Run(ctx context.Context) {
	for {
		select {
		case <-v.wake:
		case <-ctx.Done():
			return
		}
		made := v.clear(ctx)
		if over, _ := v.cfg.Fleet.DiskOver(0); !made && over > 0 {
			// What is leased now, or cannot be shipped now, can perhaps be deleted later.
			if ctxio.Sleep(ctx, v.cfg.Pause) != nil {
				return
			}
			v.Poke()
		}
	}
}

// clear is one round: it deletes files until there is room, or nothing can be deleted.
func (v *Evictor) clear(ctx context.Context) (made bool) {
	v.mu.Lock()
	need, wanted := max(v.need, v.reserve()), v.wanted
	v.need, v.wanted = 0, 0
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.made = made
		close(v.rounds)
		v.rounds = make(chan struct{})
	}()
	for ctx.Err() == nil {
		over, _ := v.cfg.Fleet.DiskOver(need)
		if over = max(over, wanted); over <= 0 {
			return true
		}
		freed := v.batch(ctx, over)
		if freed == 0 {
			return made
		}
		wanted -= freed
		made = true
	}
	return made
}

// batch deletes the files of some databases, and returns how many bytes that were.
func (v *Evictor) batch(ctx context.Context, over int64) (freed int64) {
	victims, sizes := v.cfg.Fleet.Victims(4 * v.cfg.Workers)
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, v.cfg.Workers)
	for i, e := range victims {
		if over <= 0 {
			break
		}
		over -= sizes[i]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ok := v.evict(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				freed += max(sizes[i], 1)
			}
		})
	}
	wg.Wait()
	return freed
}

func (v *Evictor) evict(ctx context.Context, e *fleet.Entry) bool {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Patience)
	defer cancel()
	begun, err := v.cfg.Vacate(ctx, e)
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
