package multidb

import (
	"context"
	"fmt"

	"github.com/multidb-go/multidb/internal/replicate"
)

// TakeoverPolicy says what happens where it is not known whether the local file
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

// TakeOver makes the local file of a database the truth: its state becomes the
// newest one at the replica, whoever wrote there last. The other history stays
// restorable by its TXIDs and times until the retention ends; the other writer, if
// there still is one, gets ErrFenced. It returns when the local file is at the
// replica.
//
// It is one of the two ways out of ErrFenced; the other is Adopt. ctx bounds the
// waiting. Errors: ErrNotFound, ErrNoReplica, ErrConflict, those of Sync, as *Error.
func (m *Manager) TakeOver(ctx context.Context, id ID) error {
	e, err := m.replicated(ctx, id)
	if err == nil {
		_, err = m.conductor.Perform(ctx, e, replicate.OrderTakeOver)
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
	if err = m.servesReplica(); err == nil {
		err = m.node.elsewhere(ctx, id, func() (err error) {
			kept, err = m.opener.WhenClosed(ctx, string(id), replicate.OrderAdopt)
			return err
		})
	}
	return kept, opError("adopt", id, err)
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
	e, err := m.replicated(ctx, id)
	if err != nil {
		return err
	}
	// While it is open: the last to close it checkpoints, and then there is no proof
	// any more of what was committed since it was opened.
	if _, err := m.conductor.Sync(ctx, e); err != nil {
		return opError("sync", id, err)
	}
	_, err = m.opener.WhenClosed(ctx, string(id), replicate.OrderHandOver)
	return err
}
