// Package each does one thing to many databases, a few at a time, and remembers which of
// them it was done to. What is done is the caller's: it may fail, panic, or never return.
//
// Run decides the order and when to stop, and knows nothing of databases. Tenants leases
// them and takes the notes. Book keeps a name to one run at a time, and knows what has not
// returned of former ones.
package each

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ErrGone is returned by Config.Do for a database that is no longer there: it is skipped.
var ErrGone = errors.New("no longer there")

// ErrPanic is wrapped by the failure of a call that panicked; the message has the stack.
var ErrPanic = errors.New("panic")

// Stop is returned by Config.Do where no other database can be done either.
type Stop struct{ Err error }

func (s Stop) Error() string { return s.Err.Error() }

// Unwrap returns why.
func (s Stop) Unwrap() error { return s.Err }

// Config is one run.
type Config struct {
	IDs       []string // in the order in which they are begun
	Skipped   int      // which are not among them any more
	Parallel  int      // how many at a time
	Canary    int      // the first ones are done one after another, and must succeed
	MaxErrors int      // failures after which nothing more is begun; 0: no bound
	// Timeout ends the context of one call; 0: none. Patience is for how long it is
	// waited for after its context has ended.
	Timeout, Patience time.Duration
	// Do does one database. A nil error says that it is done, and remembered.
	Do func(ctx context.Context, id string) error
	// Hung is told of a call that is no longer waited for, and the function that it
	// returns when that returns after all.
	Hung func(id string) (returned func())
	// Progress is called before the first database, without an ID, and after each, by the
	// caller of Run; nil: nobody is told.
	Progress func(Progress)
}

// Progress says how far a run is, after one database.
type Progress struct {
	ID                          string
	Err                         error // nil: it is done, or was skipped
	Done, Failed, Skipped, Left int
}

// Failure is what went wrong with one database.
type Failure struct {
	ID  string
	Err error
}

// Result is what became of all.
type Result struct {
	Failed              []Failure // by ID
	Done, Skipped, Left int
	Stopped             error // why nothing more was begun; nil: everything was
}

// run is one call of Run. Only that goroutine uses it, but for hung and ended.
type run struct {
	cfg    Config
	result Result
	busy   int          // calls that are waited for
	hung   atomic.Int32 // calls that are not: each keeps its place until it returns
	ended  chan outcome // has room for all that are busy
}

// outcome is how a call ended.
type outcome struct {
	id   string
	err  error
	left bool // it was ended before it was done
	hung bool
}

// Run calls cfg.Do for every database, until too many failed or ctx ends, and returns when
// the last call has returned or is no longer waited for. A call that fails after ctx has
// ended was not done, and did not fail.
func Run(ctx context.Context, cfg Config) Result {
	r := &run{cfg: cfg, ended: make(chan outcome, max(cfg.Parallel, 1))}
	r.result.Skipped, r.result.Left = cfg.Skipped, len(cfg.IDs)
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // also where Progress panics
		cancel()
		for ; r.busy > 0; r.busy-- {
			<-r.ended
		}
	}()
	r.tell("", nil)
	for good := 0; good < cfg.Canary && r.mayBegin(ctx, 1); {
		r.begin(ctx)
		done := r.result.Done
		r.settle(<-r.ended)
		good += r.result.Done - done
		if n := len(r.result.Failed); n > 0 && r.result.Stopped == nil {
			r.result.Stopped = fmt.Errorf("it went wrong with one of the first, which are tried before all others: %q", r.result.Failed[n-1].ID)
		}
	}
	for {
		for r.mayBegin(ctx, cfg.Parallel) {
			r.begin(ctx)
		}
		if r.busy == 0 {
			break
		}
		r.settle(<-r.ended)
	}
	switch {
	case r.result.Left == 0:
		r.result.Stopped = nil // it came with the last one
	case r.result.Stopped != nil:
	case ctx.Err() != nil:
		r.result.Stopped = context.Cause(ctx)
	default:
		r.result.Stopped = errors.New("what does not return has taken every place: see Timeout")
	}
	slices.SortFunc(r.result.Failed, func(a, b Failure) int { return strings.Compare(a.ID, b.ID) })
	return r.result
}

// plan tells which databases Run would do, in the order in which it would begin them.
func plan(ctx context.Context, cfg Config) (Result, error) {
	r := &run{cfg: cfg, result: Result{Skipped: cfg.Skipped, Left: len(cfg.IDs)}}
	r.tell("", nil)
	for _, id := range cfg.IDs {
		if ctx.Err() != nil {
			return r.result, context.Cause(ctx)
		}
		r.tell(id, nil)
	}
	return r.result, nil
}

// mayBegin reports whether another call may begin beside those that run.
func (r *run) mayBegin(ctx context.Context, parallel int) bool {
	return len(r.cfg.IDs) > 0 && r.result.Stopped == nil && ctx.Err() == nil && r.busy+int(r.hung.Load()) < parallel
}

func (r *run) begin(ctx context.Context) {
	id := r.cfg.IDs[0]
	r.cfg.IDs = r.cfg.IDs[1:]
	r.busy++
	go func() { r.ended <- r.one(ctx, id) }()
}

// one does one database, and waits for that as long as it should.
func (r *run) one(ctx context.Context, id string) outcome {
	bounded, cancel := context.WithCancel(ctx)
	if r.cfg.Timeout > 0 {
		bounded, cancel = context.WithTimeout(ctx, r.cfg.Timeout)
	}
	defer cancel() // which also rolls back the transactions that were begun with it
	returned := make(chan error, 1)
	go guarded(bounded, id, r.cfg.Do, returned)
	select {
	case err := <-returned:
		return r.outcome(ctx, bounded, id, err)
	case <-bounded.Done():
	}
	patience := time.NewTimer(r.cfg.Patience)
	defer patience.Stop()
	select {
	case err := <-returned:
		return r.outcome(ctx, bounded, id, err)
	case <-patience.C:
	}
	r.hung.Add(1)
	done := r.cfg.Hung(id)
	go func() {
		r.late(<-returned)
		done()
	}()
	return outcome{id: id, hung: true, err: fmt.Errorf("it has not returned %v after its context ended, and keeps the database leased until it does: %w", r.cfg.Patience, bounded.Err())}
}

// late ends a call that hung. What it returned nobody waits for: that it hangs is told already.
func (r *run) late(error) { r.hung.Add(-1) }

// outcome is that of a call that has returned.
func (r *run) outcome(ctx, bounded context.Context, id string, err error) outcome {
	o := outcome{id: id, err: err}
	switch {
	case err == nil, errors.Is(err, ErrGone), errors.Is(err, ErrPanic):
	case ctx.Err() != nil:
		o.left = true
	case bounded.Err() != nil:
		o.err = fmt.Errorf("%w (the Timeout of %v): %w", context.DeadlineExceeded, r.cfg.Timeout, err)
	}
	return o
}

// guarded calls do and says what it returned. A panic becomes an error, and so does an end
// of the goroutine.
func guarded(ctx context.Context, id string, do func(context.Context, string) error, returned chan<- error) {
	err := fmt.Errorf("%w: runtime.Goexit was called", ErrPanic)
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("%w: %w\n%s", ErrPanic, p, debug.Stack())
		default:
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, p, debug.Stack())
		}
		returned <- err
	}()
	err = do(ctx, id)
}

// settle counts an outcome.
func (r *run) settle(o outcome) {
	r.busy--
	var stop Stop
	switch {
	case errors.As(o.err, &stop):
		r.result.Stopped = stop.Err
		return
	case o.left:
		return
	case o.err == nil:
		r.result.Done++
	case errors.Is(o.err, ErrGone):
		r.result.Skipped++
		o.err = nil
	default:
		r.result.Failed = append(r.result.Failed, Failure{o.id, o.err})
		if n := len(r.result.Failed); n == r.cfg.MaxErrors && r.result.Stopped == nil {
			r.result.Stopped = fmt.Errorf("it went wrong with %d databases, which is the limit", n)
		}
	}
	r.result.Left--
	r.tell(o.id, o.err)
}

func (r *run) tell(id string, err error) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{
			ID: id, Err: err,
			Done: r.result.Done, Failed: len(r.result.Failed), Skipped: r.result.Skipped, Left: r.result.Left,
		})
	}
}
