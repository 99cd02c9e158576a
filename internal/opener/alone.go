package opener

import (
	"context"
	"errors"
	"fmt"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/replicate"
)

// Alone calls fn when nobody in this process has a database open, and keeps everybody from
// opening it until fn returns. It waits for the leases and for whoever else does so; ctx
// bounds that. Who wants to open the database meanwhile gets refuse; nil: waits.
func (o *Opener) Alone(ctx context.Context, e *fleet.Entry, refuse error, fn func() error) error {
	lift, err := o.Keep(ctx, e, refuse)
	if err != nil {
		return err
	}
	defer lift()
	return fn()
}

// Keep is Alone for who goes on until it calls lift. lift is nil after an error.
func (o *Opener) Keep(ctx context.Context, e *fleet.Entry, refuse error) (lift func(), err error) {
	for {
		bar, busy, err := o.fleet.Bar(e, refuse)
		if err != nil {
			return nil, err
		} else if busy != nil {
			select {
			case <-busy.Lifted():
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: another operation on it is under way: %w", conduct.ErrInUse, context.Cause(ctx))
			}
		}
		if err := o.free(ctx, bar); err != nil {
			o.fleet.Lift(bar)
			return nil, err
		}
		return func() { o.fleet.Lift(bar) }, nil
	}
}

// free returns when nobody in this process has a barred database open.
func (o *Opener) free(ctx context.Context, bar *fleet.Bar) error {
	select {
	case <-o.fleet.Idle(bar): // nobody is about to lease it
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := o.pool.EvictAndWait(ctx, bar.Entry()); err != nil {
		return fmt.Errorf("%w: it is leased: %w", conduct.ErrInUse, err)
	}
	return nil
}

// Vacate deletes the local file of a database once the replica is proved to have all of it;
// see Alone.
func (o *Opener) Vacate(ctx context.Context, e *fleet.Entry, refuse error) error {
	return o.Alone(ctx, e, refuse, func() error { return o.VacateAlone(ctx, e) })
}

// VacateAlone is Vacate for the function that Alone calls. Of a database that has no local
// file it proves that nobody else has gone on with it since (ship.ErrFenced).
func (o *Opener) VacateAlone(ctx context.Context, e *fleet.Entry) error {
	if file := fsid.OrZero(e.Path()); !file.IsZero() && o.fleet.Evicted(e) {
		o.fleet.NoteFile(e, file) // somebody has put it there: the run takes a bar for its maker's
		o.fleet.Found(e)
	}
	err := o.perform(ctx, e, replicate.OrderEvict)
	if errors.Is(err, localfile.ErrInUse) {
		return fmt.Errorf("%w: %w", conduct.ErrInUse, err)
	}
	return err
}

// perform has an order carried out, which is withdrawn where ctx ends before it touches the
// file.
func (o *Opener) perform(ctx context.Context, e *fleet.Entry, kind replicate.Order) error {
	order, err := o.conductor.Perform(ctx, e, kind)
	if err != nil && order != nil && ctx.Err() != nil && !o.fleet.Withdraw(order) {
		return o.conductor.Await(context.WithoutCancel(ctx), order)
	}
	return err
}

// TryVacate is Vacate for a database that nobody has leased or waits for, and gives up as
// soon as somebody does. false: somebody does, and nothing was begun.
func (o *Opener) TryVacate(ctx context.Context, e *fleet.Entry) (begun bool, err error) {
	bar := o.fleet.TryBar(e)
	if bar == nil {
		return false, nil
	}
	defer o.fleet.Lift(bar)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-bar.Wanted():
			cancel(errWanted)
		case <-stop:
		}
	}()
	o.pool.CloseIdle(e)
	if _, _, open := o.pool.Peek(e); open {
		return true, errWanted
	}
	return true, o.VacateAlone(ctx, e)
}

var errWanted = fmt.Errorf("%w: it is wanted again", conduct.ErrInUse)
