package conduct

import (
	"context"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/superfly/ltx"
)

// Sync returns when everything that was committed before the call is at the replica, up
// to which transaction. ctx bounds the waiting; the run goes on.
func (c *Conductor) Sync(ctx context.Context, e *fleet.Entry) (ltx.TXID, error) {
	s := c.answer(ctx, c.fleet.Sync(e))
	return s.TXID, s.Err
}

// answer waits for the answer to a Sync: life.ErrClosed where nothing runs any more. One that is there counts, though
// ctx has ended.
func (c *Conductor) answer(ctx context.Context, answer <-chan fleet.Synced) (s fleet.Synced) {
	select {
	case s = <-answer:
		return s
	default:
	}
	select {
	case s = <-answer:
	case <-ctx.Done():
		s.Err = context.Cause(ctx)
	case <-c.cfg.Stopped:
		s.Err = life.ErrClosed
	}
	return s
}

// Perform has a run carry out an order, after the one that is under way. ctx bounds the
// waiting; the run goes on. For replicate.OrderCheck and replicate.OrderAdopt the caller
// makes sure that the pool does not have the file open. o is nil where it was not given.
func (c *Conductor) Perform(ctx context.Context, e *fleet.Entry, kind replicate.Order) (o *fleet.Order, err error) {
	o = fleet.NewOrder(kind)
	for {
		before, err := c.fleet.Give(e, o)
		if err != nil {
			return nil, err
		} else if before == nil {
			return o, c.Await(ctx, o)
		}
		if err, done := c.await(ctx, before); !done {
			return nil, err
		}
	}
}

// Await waits for the end of an order. The error is the order's, or that of ctx.
func (c *Conductor) Await(ctx context.Context, o *fleet.Order) error {
	err, _ := c.await(ctx, o)
	return err
}

// await reports, too, whether the order has ended.
func (c *Conductor) await(ctx context.Context, o *fleet.Order) (err error, done bool) {
	select {
	case <-o.Done():
		_, err := o.Result()
		return err, true
	case <-ctx.Done():
		return context.Cause(ctx), false
	case <-c.cfg.Stopped:
		return life.ErrClosed, false
	}
}
