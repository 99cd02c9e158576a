package opener

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
)

// exclusive is an order that needs a database which nobody has open: the next opening
// carries it out, as the pool opens a database only then.
type exclusive struct {
	kind replicate.Order
	done bool // it was carried out, or could not be
	kept string
	err  error
}

// ErrHandedOver is what an opening ends with that was made for a hand-over.
var ErrHandedOver = fmt.Errorf("%w: it is being handed over to another machine", conduct.ErrInUse)

// WhenClosed has an order carried out when nobody has the database open, which it waits
// for. kept is where the local file is, if another took its place. ErrInUse: another
// order of that kind is under way.
func (o *Opener) WhenClosed(ctx context.Context, id string, kind replicate.Order) (kept string, err error) {
	e, err := o.hold(ctx, id, o.cfg.Locate)
	if err != nil {
		return "", err
	}
	defer o.conductor.LetGo(e)
	want := &exclusive{kind: kind}
	o.mu.Lock()
	if o.exclusive[e] != nil {
		o.mu.Unlock()
		return "", fmt.Errorf("%w: another Adopt or HandOver of it is under way", conduct.ErrInUse)
	}
	o.exclusive[e] = want
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.exclusive, e)
		o.mu.Unlock()
	}()
	// The pool opens a database only when nobody has it, and then open does it.
	o.pool.Evict(e)
	o.want(e)
	defer o.unwant(e)
	lease, err := o.pool.Acquire(ctx, e)
	if err == nil {
		lease.Release()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil || errors.Is(err, ErrHandedOver) {
		err = want.err
	}
	return want.kept, err
}

// carryOut is called while the pool opens a database, when nobody can have it open: it
// carries out what WhenClosed wants. done reports whether there was anything.
func (o *Opener) carryOut(ctx context.Context, e *fleet.Entry) (done bool, err error) {
	o.mu.Lock()
	want := o.exclusive[e]
	todo := want != nil && !want.done
	o.mu.Unlock()
	if !todo {
		return false, nil
	}
	order, err := o.conductor.Perform(ctx, e, want.kind)
	o.mu.Lock()
	defer o.mu.Unlock()
	if want.err = err; order != nil {
		want.done = true
		select {
		case <-order.Done():
			want.kept, _ = order.Result()
		default: // ctx ended before
		}
	}
	if err == nil && want.kind == replicate.OrderHandOver {
		err = ErrHandedOver // the pool opens nothing
	}
	return true, err
}

// refreshTime bounds how long the opening of a database waits for the replica.
const refreshTime = 5 * time.Second

// refresh is called while the pool opens a database whose file is there: with
// RestoreOnOpen it brings the file up to date, unless this process knows already that it
// is the newest.
func (o *Opener) refresh(ctx context.Context, e *fleet.Entry) error {
	switch {
	case o.cfg.Shared:
		return o.renew(ctx, e)
	case !o.cfg.Replicated || !o.cfg.RestoreOnOpen || o.fleet.IsUpToDate(e):
		return nil
	}
	// A replica that does not answer keeps nobody from his file: then the first write
	// finds out.
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	order, err := o.conductor.Perform(ctx, e, replicate.OrderCheck)
	if err != nil && order != nil && o.fleet.Withdraw(order) {
		return nil
	} else if order != nil {
		err = o.conductor.Await(context.WithoutCancel(ctx), order) // no file is opened while it is replaced
	}
	if errors.Is(err, replicate.ErrReplacing) {
		return err
	}
	return nil
}

// errAway: the file was set aside, and there is nothing that could take its place.
var errAway = errors.New("the local file was set aside")

// renew is refresh where another node may have gone on with the database: nothing that may be old
// is opened, and commits that nobody promised to keep give way to the history that
// others have. They are set aside with the file, and told of (EventSetAside).
func (o *Opener) renew(ctx context.Context, e *fleet.Entry) error {
	for range renewTries {
		if o.fleet.IsNewest(e) {
			return nil
		}
		if err := o.tryRenew(ctx, e); err != nil {
			return err
		}
		// A run that is in progress may be about to find out otherwise.
		select {
		case <-o.fleet.Ended(e):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("look for newer commits of other nodes: %w: it is not known to be the newest", conduct.ErrInUse)
}

// renewTries is how often a file is looked at that others go on changing.
const renewTries = 10

func (o *Opener) tryRenew(ctx context.Context, e *fleet.Entry) error {
	o.fleet.Doubt(e, o.cfg.Prefix(e.Database()))
	err := o.perform(ctx, e, replicate.OrderCheck)
	if errors.Is(err, ship.ErrFenced) && o.fleet.Fenced() == nil {
		cache := o.fleet.IsCache(e)
		err = o.perform(ctx, e, replicate.OrderAdopt)
		if cache && errors.Is(err, restore.ErrNoBackup) { // another node has erased it
			if _, err := o.SetAside(ctx, e.ID(), e.Path()); err != nil {
				return err
			}
			o.fleet.Anew(e)
			return errAway
		}
	}
	if err != nil {
		return fmt.Errorf("look for newer commits of other nodes: %w", err)
	}
	return nil
}

// SetAside moves a file away, which nobody has open, that may have what nobody promised, and tells of it.
func (o *Opener) SetAside(ctx context.Context, id, path string) (kept string, err error) {
	kept, err = localfile.SetAside(ctx, path, filepath.Join(filepath.Dir(path), localfile.KeptDir), "unpromised", o.cfg.Now())
	failpoint.Hit("cluster.aside.moved")
	if kept != "" || err != nil {
		o.fleet.Emit(fleet.Event{Type: fleet.EventSetAside, ID: id, Path: kept, Op: "set aside", Err: err})
	}
	if kept != "" {
		o.conductor.NoteKept(kept)
	}
	if err == nil {
		o.conductor.NotCache(id)
	}
	return kept, err
}
