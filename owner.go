package multidb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
)

// TakeoverPolicy says what happens where it cannot be told whether the local file
// or the replica is the newer one. See WithTakeover.
type TakeoverPolicy uint8

const (
	// TakeoverNever refuses the database with ErrFenced until somebody says:
	// Manager.TakeOver or Manager.Adopt. The default.
	TakeoverNever TakeoverPolicy = iota
	// TakeoverUnknown lets the local file win where the state directory was lost, is
	// a copy, or came out of a backup, so that nothing is known of who wrote the
	// replica last. It is for a fleet whose tenants are never opened on two machines.
	TakeoverUnknown
)

func (p TakeoverPolicy) String() string {
	switch p {
	case TakeoverNever:
		return "never"
	case TakeoverUnknown:
		return "unknown"
	}
	return fmt.Sprintf("TakeoverPolicy(%d)", uint8(p))
}

// WithTakeover sets what happens at the first write of a database after a start
// where it is not known whose the replica's history is. Default TakeoverNever.
// Where another machine is known to have written, neither policy lets the local
// file win; a state directory that was ever found to be a copy knows of none.
func WithTakeover(p TakeoverPolicy) Option {
	return func(c *config) error {
		if p > TakeoverUnknown {
			return invalid("WithTakeover", "%v; want TakeoverNever or TakeoverUnknown", p)
		}
		c.takeover = p
		return nil
	}
}

// order is what one run of a database is to do besides shipping: an operator's word,
// or the pool's, which is about to open it.
type order struct {
	kind replicate.Order
	kept string // where the local file is now, if it was replaced
	err  error
	done chan struct{} // closed when kept and err are set

	// Guarded by Manager.mu: who gave it waits no longer, so that the file may be
	// open; or it is past the point at which that can be said.
	withdrawn, replacing bool
}

// perform has a run carry out an order, after the one that is under way. ctx bounds
// the waiting; the run goes on. For replicate.OrderCheck and replicate.OrderAdopt the caller makes sure
// that the pool does not have the file open.
func (m *Manager) perform(ctx context.Context, e *entry, kind replicate.Order) (*order, error) {
	o := &order{kind: kind, done: make(chan struct{})}
	for {
		m.mu.Lock()
		before := m.orders[e]
		switch {
		case e.Removed:
			m.unlock()
			return nil, ErrNotFound
		case e.Clash:
			defer m.unlock()
			return nil, e.Refused
		case before == nil:
			m.orders[e] = o
			now := m.cfg.now()
			m.fleet.Reset(e.item, now)
			m.fleet.Request(e.item, now)
			m.unlock()
			m.workers.Poke()
			return o, m.carriedOut(ctx, o)
		}
		m.unlock()
		if err := m.carriedOut(ctx, before); err != nil && before.err == nil { // not its own error
			return nil, err
		}
	}
}

// carriedOut waits for the end of an order.
func (m *Manager) carriedOut(ctx context.Context, o *order) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.ctx.Done():
		return ErrClosed
	}
}

// endOrderLocked tells who gave the order what became of it.
func (m *Manager) endOrderLocked(e *entry, o *order, err error) {
	if o != nil {
		o.err = err
		delete(m.orders, e)
		close(o.done)
	}
}

// TakeOver makes the local file of a database the truth: its state becomes the
// newest one at the replica, whoever wrote there last. The other history stays
// restorable by its TXIDs and times until the retention ends; the other writer, if
// there still is one, gets ErrFenced. It returns when the local file is at the
// replica.
//
// It is one of the two ways out of ErrFenced; the other is Adopt. ctx bounds the
// waiting. Errors: ErrNotFound, ErrNoReplica, ErrConflict, those of Sync, as *Error.
func (m *Manager) TakeOver(ctx context.Context, id ID) error {
	e, err := m.replicated(id)
	if err == nil {
		_, err = m.perform(ctx, e, replicate.OrderTakeOver)
	}
	return opError("take over", id, err)
}

// Adopt makes the replica's newest state that of a database: its local file is set
// aside, as kept says, with all that was committed to it, and a restored one takes
// its place. Nothing of it is shipped. It waits until nobody has the database
// leased; whoever leases it next gets the new file. Programs that have opened the
// file themselves keep the old one: end them first.
//
// It is one of the two ways out of ErrFenced; the other is TakeOver. Callers of Sync
// that wait meanwhile get ErrFenced, since their commits are in the file that is set
// aside. A crash leaves the old file in its place, or the new one, or none: then
// call Adopt again. ctx bounds the waiting. Errors: ErrNotFound, ErrNoReplica,
// ErrNoBackup, ErrConflict, those of a restore, as *Error.
func (m *Manager) Adopt(ctx context.Context, id ID) (kept string, err error) {
	kept, err = m.adopt(ctx, id)
	return kept, opError("adopt", id, err)
}

func (m *Manager) adopt(ctx context.Context, id ID) (kept string, err error) {
	if m.cfg.replica == nil {
		return "", ErrNoReplica
	}
	return m.whenClosed(ctx, id, replicate.OrderAdopt)
}

// whenClosed has an order carried out when the pool does not have the database open,
// which it waits for.
func (m *Manager) whenClosed(ctx context.Context, id ID, kind replicate.Order) (kept string, err error) {
	e, err := m.hold(ctx, id)
	if err != nil {
		return "", err
	}
	defer m.letGo(e)
	want := &order{kind: kind}
	m.mu.Lock()
	if m.opening[e] != nil {
		m.unlock()
		return "", fmt.Errorf("%w: another Adopt or HandOver of it is under way", ErrInUse)
	}
	m.opening[e] = want
	m.unlock()
	defer func() {
		m.mu.Lock()
		delete(m.opening, e)
		m.unlock()
	}()
	// The pool opens a key only when nobody has it, and then openTenant does it.
	m.pool.Evict(e)
	lease, err := m.pool.Acquire(ctx, e)
	if err == nil {
		lease.Release()
	}
	m.mu.Lock()
	defer m.unlock()
	if err == nil || errors.Is(err, errHandedOver) {
		err = want.err
	}
	return want.kept, err
}

// HandOver ships what is left of a database and lets go of it, so that another
// machine can go on from there: nothing is open, and everything is at the replica.
// This Manager takes nothing it knows of the replica for granted any more: when the
// database is used here again, it looks first, and with WithRestoreOnOpen brings
// the file up to date. The other machine needs WithRestoreOnOpen, or Adopt.
//
// Stop sending the tenant's requests here first: an Acquire during HandOver fails
// with ErrInUse, one after it opens the database again. It waits until no lease is
// left; ctx bounds that. Errors: ErrNotFound, ErrNoReplica, ErrInUse for a second
// one at the same time, those of Sync, as *Error.
func (m *Manager) HandOver(ctx context.Context, id ID) error {
	return opError("hand over", id, m.handOver(ctx, id))
}

func (m *Manager) handOver(ctx context.Context, id ID) error {
	if _, err := m.replicated(id); err != nil {
		return err
	}
	// While it is open: the last to close it checkpoints, and then there is no proof
	// any more of what was committed since it was opened.
	if _, err := m.Sync(ctx, id); err != nil {
		return err
	}
	_, err := m.whenClosed(ctx, id, replicate.OrderHandOver)
	return err
}

// errHandedOver is what an opening ends with that was made for a hand-over.
var errHandedOver = fmt.Errorf("%w: it is being handed over to another machine", ErrInUse)

// replicated is a known database of a Manager with a replica.
func (m *Manager) replicated(id ID) (*entry, error) {
	if m.cfg.replica == nil {
		return nil, ErrNoReplica
	}
	return m.lookup(id)
}

// orderedOnOpen is called while the pool opens a database, when nobody can have it
// open: it carries out what Adopt or HandOver wants. done reports whether there was
// anything.
func (m *Manager) orderedOnOpen(ctx context.Context, e *entry) (done bool, err error) {
	m.mu.Lock()
	want := m.opening[e]
	todo := want != nil && want.done == nil
	m.unlock()
	if !todo {
		return false, nil
	}
	o, err := m.perform(ctx, e, want.kind)
	m.mu.Lock()
	defer m.unlock()
	if want.err = err; o != nil {
		want.kept, want.done = o.kept, o.done
	}
	if err == nil && want.kind == replicate.OrderHandOver {
		err = errHandedOver // the pool opens nothing
	}
	return true, err
}

// freshen is called while the pool opens a database whose file is there: with
// WithRestoreOnOpen it brings the file up to date, unless this process knows already
// that it is the newest.
func (m *Manager) freshen(ctx context.Context, e *entry) error {
	if m.cfg.replica == nil || !m.cfg.restoreOpen {
		return nil
	}
	m.mu.Lock()
	known := e.Refused != nil && !errors.Is(e.Refused, ship.ErrBehind) ||
		!e.item.Running() && e.peekLocked().Verified()
	m.unlock()
	if known {
		return nil
	}
	// A replica that does not answer keeps nobody from his file: then the first
	// write finds out.
	ctx, cancel := context.WithTimeout(ctx, freshenTime)
	defer cancel()
	o, err := m.perform(ctx, e, replicate.OrderCheck)
	if err != nil && o != nil && m.withdraw(o) {
		return nil
	} else if o != nil {
		err = m.carriedOut(context.WithoutCancel(ctx), o) // no file is opened while it is replaced
	}
	if errors.Is(err, replicate.ErrReplacing) {
		return err
	}
	return nil
}

// withdraw ends what an order may do to the local file, which is about to be opened.
// false: it is doing it, or is done.
func (m *Manager) withdraw(o *order) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o.withdrawn = !o.replacing
	return o.withdrawn
}

// freshenTime bounds how long the opening of a database waits for the replica.
const freshenTime = 5 * time.Second
