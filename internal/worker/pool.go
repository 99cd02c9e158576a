// Package worker runs the jobs that a schedule hands out, a bounded number at a
// time, and owns the goroutines that do it.
package worker

import (
	"context"
	"sync"
	"time"
)

// Source decides what runs and when. A Pool calls it from one goroutine at a time and
// without holding a lock. A Source whose state others change too has a lock of its own.
type Source interface {
	// Next returns the job to run now, or false if none is due. Every job that it
	// returns is run exactly once, whatever happens. The job's ctx ends only if the
	// ctx of Stop ends first. A job that panics ends the process: it has left a
	// database in the middle of a step, and to go on would hide that.
	Next(now time.Time) (job func(ctx context.Context), ok bool)
	// Wake returns when the next job becomes due, and false if only an event can
	// make one due. It is called after Next has returned false.
	Wake() (at time.Time, ok bool)
}

// minDelay is the shortest wait after Next has returned false. Without it, a Source
// whose Wake then returns a time in the past would make a busy loop.
const minDelay = time.Millisecond

// Pool runs the jobs of one Source on a fixed number of goroutines; one more dispatches,
// with one timer for all. The goroutines live from Start to Stop. Safe for concurrent use.
type Pool struct {
	source  Source
	workers int
	now     func() time.Time

	free chan struct{}              // one token for every worker that could take a job
	jobs chan func(context.Context) // sending never blocks: each job has a token
	poke chan struct{}
	stop chan struct{} // closed by Stop
	done chan struct{} // closed when every goroutine has ended, or none will start

	ctx    context.Context // of the jobs
	cancel context.CancelFunc

	mu      sync.Mutex
	started bool
	stopped bool
}

// New returns a Pool that does nothing before Start. workers below 1 counts as 1. now is
// the clock by which Next and Wake go, usually time.Now.
func New(source Source, workers int, now func() time.Time) *Pool {
	workers = max(workers, 1)
	p := &Pool{
		source: source, workers: workers, now: now,
		free: make(chan struct{}, workers),
		jobs: make(chan func(context.Context), workers),
		poke: make(chan struct{}, 1),
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Start starts the goroutines. It does nothing if the Pool was started or stopped before.
func (p *Pool) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.stopped {
		return
	}
	p.started = true
	var wg sync.WaitGroup
	for range p.workers {
		p.free <- struct{}{}
		wg.Go(p.work)
	}
	go func() {
		defer close(p.done)
		p.dispatch()
		close(p.jobs)
		wg.Wait()
	}()
}

// Poke says that something may be due earlier than Wake said. It never blocks, takes no
// lock, and may be called at any time, also under the lock of the Source. One call of Next
// may answer many Pokes, but every Poke is followed by a call of Next.
func (p *Pool) Poke() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// Stop dispatches nothing more and returns when the running jobs and the goroutines of
// the Pool have ended. If ctx ends first, the context of the jobs is cancelled, and Stop
// returns the cause of ctx without waiting for them; call it again to wait. Concurrent
// calls are fine. A Pool that was stopped cannot be started.
func (p *Pool) Stop(ctx context.Context) error {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		close(p.stop)
		if !p.started {
			close(p.done)
		}
	}
	p.mu.Unlock()

	defer p.cancel()
	select {
	case <-p.done:
		return nil
	default:
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Pool) work() {
	for job := range p.jobs {
		job(p.ctx)
		p.free <- struct{}{}
		p.Poke() // what the job found out may have made something due
	}
}

// dispatch asks for a job only when a worker is free, so that the Source chooses it as
// late as possible.
func (p *Pool) dispatch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-p.free:
		}
		if !p.dispatchOne(timer) {
			return
		}
	}
}

// dispatchOne waits until there is a job and gives it to a worker. It returns
// false when the Pool is stopped.
func (p *Pool) dispatchOne(timer *time.Timer) bool {
	for {
		select {
		case <-p.stop:
			return false
		default:
		}
		if job, ok := p.source.Next(p.now()); ok {
			p.jobs <- job
			return true
		}
		var wake <-chan time.Time
		if at, ok := p.source.Wake(); ok {
			timer.Reset(max(at.Sub(p.now()), minDelay))
			wake = timer.C
		}
		select {
		case <-p.stop:
			return false
		case <-p.poke:
		case <-wake:
		}
	}
}
