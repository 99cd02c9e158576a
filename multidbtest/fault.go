package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrInjected is the error of a fault that names none of its own.
var ErrInjected = errors.New("injected fault")

// Fault says which operations fail, and how. One that says only which, as
// Fault{Op: OpWrite, Times: 3}, fails them with ErrInjected.
//
// An operation that is hit first waits (Delay, Until, Hang; the context ends
// every wait and its error is returned), then fails with Err if there is one. Without
// Err it is applied if the fault has a wait or is a Probe, and fails with ErrInjected
// otherwise. With LostAnswer it is applied first, and fails in any case.
type Fault struct {
	// Op is the kind of operation to hit; empty means every kind.
	Op Op
	// Prefix is the database to hit; empty means every database.
	Prefix string
	// Match narrows it down; nil means all. Err and At of the operation are not
	// set yet. It is called without a lock held, and must be safe for
	// concurrent use.
	Match func(Operation) bool
	// Times is how many operations are hit; 0 means all until Clear. Not negative.
	Times int

	// Delay is how long to wait; 0 means not at all. Not negative.
	Delay time.Duration
	// Until is waited for; nil means not at all.
	Until <-chan struct{}
	// Hang waits until the operation's context ends or Clear is called.
	Hang bool
	// Err is what the operation returns. Nil: ErrInjected, unless the fault has a wait
	// and no LostAnswer, or is a Probe; then the operation succeeds.
	Err error
	// Probe changes nothing: it tells by Hit and Hits that an operation came. It has
	// neither Err nor LostAnswer.
	Probe bool
	// LostAnswer applies the operation before the fault: the storage did what it was
	// asked, but the caller gets an error.
	LostAnswer bool
}

// check returns what cannot be meant.
func (f *Fault) check() error {
	switch {
	case f.Times < 0:
		return fmt.Errorf("multidbtest: Fault.Times is %d; want how many operations to hit, or 0 for all until Clear", f.Times)
	case f.Delay < 0:
		return fmt.Errorf("multidbtest: Fault.Delay is %v; want how long to wait, or 0", f.Delay)
	case f.Probe && (f.Err != nil || f.LostAnswer):
		return errors.New("multidbtest: a Fault with Probe changes nothing; it cannot have Err or LostAnswer")
	}
	return nil
}

// err is what a hit operation returns, after the wait; nil: it is applied.
func (f *Fault) err() error {
	waits := f.Delay > 0 || f.Until != nil || f.Hang
	switch {
	case f.Err != nil:
		return f.Err
	case f.LostAnswer, !waits && !f.Probe:
		return ErrInjected
	}
	return nil
}

// Injection is an injected fault. It is safe for concurrent use.
type Injection struct {
	replica *Replica
	fault   Fault
	hit     chan struct{} // closed at the first hit
	cleared chan struct{} // closed by Clear

	// Guarded by replica.mu.
	hits int
	done bool
}

// Inject adds a fault. At most one hits an operation: of those that match, the one
// injected first. It panics if the fault contradicts itself; as with negative Times, or a Probe with Err.
func (r *Replica) Inject(f Fault) *Injection {
	if err := f.check(); err != nil {
		panic(err)
	}
	in := &Injection{replica: r, fault: f, hit: make(chan struct{}), cleared: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, in)
	return in
}

// Clear removes the fault. Operations that wait in it stop waiting, and end as the
// fault says: with its error, if it has one. It may be called again.
func (in *Injection) Clear() {
	in.replica.mu.Lock()
	defer in.replica.mu.Unlock()
	select {
	case <-in.cleared:
	default:
		close(in.cleared)
	}
	in.removeLocked()
}

// Hit returns a channel that is closed when the fault hits its first operation,
// before that operation waits or fails.
func (in *Injection) Hit() <-chan struct{} { return in.hit }

// Hits returns how many operations were hit so far.
func (in *Injection) Hits() int {
	in.replica.mu.Lock()
	defer in.replica.mu.Unlock()
	return in.hits
}

// removeLocked ends the fault for operations that were not hit yet.
func (in *Injection) removeLocked() {
	in.done = true
	r := in.replica
	r.faults = slices.DeleteFunc(slices.Clone(r.faults), func(o *Injection) bool { return o == in })
}

// ClearFaults clears every fault, those that have had their last hit too.
func (r *Replica) ClearFaults() {
	r.mu.Lock()
	faults := slices.Clone(r.faults)
	for in := range r.inside {
		faults = append(faults, in)
	}
	r.mu.Unlock()
	for _, in := range faults {
		in.Clear()
	}
}

// take returns the fault that hits op, or nil.
func (r *Replica) take(op Operation) *Injection {
	r.mu.Lock()
	faults := r.faults // never changed in place
	r.mu.Unlock()
	for _, in := range faults {
		if in.fits(op) && in.take() {
			return in
		}
	}
	return nil
}

func (in *Injection) fits(op Operation) bool {
	f := &in.fault
	return (f.Op == "" || f.Op == op.Op) &&
		(f.Prefix == "" || f.Prefix == op.Prefix) &&
		(f.Match == nil || f.Match(op))
}

// take counts a hit, unless another operation had the last one meanwhile.
func (in *Injection) take() bool {
	in.replica.mu.Lock()
	defer in.replica.mu.Unlock()
	if in.done {
		return false
	}
	in.hits++
	in.replica.inside[in]++
	if in.hits == 1 {
		close(in.hit)
	}
	if in.hits == in.fault.Times {
		in.removeLocked()
	}
	return true
}

// run does one operation under the fault, after take.
func (in *Injection) run(ctx context.Context, apply func() error) error {
	defer in.leave()
	if in.fault.LostAnswer {
		// The answer is lost whatever it was, a refusal too.
		_ = apply()
	}
	if err := in.wait(ctx); err != nil {
		return err
	}
	if err := in.fault.err(); err != nil {
		return err
	}
	return apply()
}

func (in *Injection) leave() {
	r := in.replica
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside[in]--; r.inside[in] == 0 {
		delete(r.inside, in)
	}
}

func (in *Injection) wait(ctx context.Context) error {
	f := &in.fault
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-in.cleared:
		case <-ctx.Done():
		}
	}
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-in.cleared:
		case <-ctx.Done():
		}
	}
	if f.Hang {
		select {
		case <-in.cleared:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
