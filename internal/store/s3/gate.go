package s3

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	gateBackoffMin = 100 * time.Millisecond
	gateBackoffMax = 2 * time.Second
	retryAfterMax  = 30 * time.Second // whatever the store asks for
)

// gate bounds the requests in flight and holds all of them back when the store
// throttles: a fleet of databases that each back off on their own still hammers
// it. It works as a congestion window. A throttled answer halves the window and
// pauses everything for a while, longer each time in a row; each window of
// successes widens it by one. Waiters are served first come, first served.
//
// Safe for concurrent use.
type gate struct {
	max int // the widest window

	mu       sync.Mutex
	window   float64 // 1 … max
	inFlight int
	waiters  list.List // of chan struct{}, closed when admitted
	round    uint64    // pauses so far; answers to requests of an earlier round are ignored
	backoff  time.Duration
	resume   time.Time
	timer    *time.Timer // wakes the waiters at resume; nil if none is pending
}

// ticket is one admitted request. The holder ends it by exactly one done.
type ticket struct{ round uint64 }

type outcome int

const (
	neutral   outcome = iota // says nothing about the store's load
	succeeded                // the store did what was asked
	throttled                // 503 or 429
)

func newGate(max int) *gate { return &gate{max: max, window: float64(max)} }

// acquire waits for admission until ctx ends.
func (g *gate) acquire(ctx context.Context) (ticket, error) {
	g.mu.Lock()
	if g.waiters.Len() == 0 && g.openLocked() {
		g.inFlight++
		t := ticket{g.round}
		g.mu.Unlock()
		return t, nil
	}
	admitted := make(chan struct{})
	e := g.waiters.PushBack(admitted)
	g.admitLocked() // arms the timer
	g.mu.Unlock()

	select {
	case <-admitted:
		g.mu.Lock()
		defer g.mu.Unlock()
		return ticket{g.round}, nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		select {
		case <-admitted: // both at once: give the place on
			g.inFlight--
			g.admitLocked()
		default:
			g.waiters.Remove(e)
		}
		return ticket{}, ctx.Err()
	}
}

// done ends an admitted request. retryAfter is what the store asked for with a
// throttled answer; 0 if nothing.
func (g *gate) done(t ticket, o outcome, retryAfter time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	switch {
	case o == throttled && t.round == g.round:
		g.round++
		g.window = max(1, g.window/2)
		g.backoff = min(max(2*g.backoff, gateBackoffMin), gateBackoffMax)
		pause := g.backoff/2 + rand.N(g.backoff/2+1)
		pause = max(pause, min(retryAfter, retryAfterMax))
		g.resume = time.Now().Add(pause)
	case o == succeeded && t.round == g.round:
		g.backoff = 0
		g.window = min(float64(g.max), g.window+1/g.window)
	}
	g.admitLocked()
}

func (g *gate) openLocked() bool {
	return g.inFlight < int(g.window) && !time.Now().Before(g.resume)
}

func (g *gate) admitLocked() {
	for g.waiters.Len() > 0 && g.openLocked() {
		g.inFlight++
		close(g.waiters.Remove(g.waiters.Front()).(chan struct{}))
	}
	if wait := time.Until(g.resume); g.waiters.Len() > 0 && wait > 0 && g.timer == nil {
		g.timer = time.AfterFunc(wait, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.timer = nil
			g.admitLocked()
		})
	}
}
