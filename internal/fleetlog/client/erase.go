package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/journal"
)

// Erase makes void all that the logs have of this prefix, from this life and former ones:
// when it returns without an error, no reader takes any of it, and no process writes it to
// the prefix any more, whatever is begun at the prefix then and wherever this one stops. What
// is queued is acknowledged first.
//
// until is when the objects that have bytes of it are deleted, as long as a process has the
// log: after the retention, and when what they have of other tenants is unpacked. Zero: there is
// none. So a second Erase, after that time, proves that nothing is left; it deletes what a
// failure has left. Older versions of these objects, where the store keeps them, are not
// looked for.
//
// The caller makes sure that nobody writes to the prefix, deletes its objects after this, and
// begins a new history only when these are gone. Erase waits for the store as long as ctx lets
// it. After an error it is to be called again: the log may have forgotten the prefix or not.
func (c *Client) Erase(ctx context.Context) (until time.Time, err error) {
	until, err = c.log.Erase(ctx, c.prefix)
	if err == nil {
		c.log.mu.Lock()
		defer c.log.mu.Unlock()
		c.taken = 0
	}
	return until, err
}

// Erase is Client.Erase.
func (l *Log) Erase(ctx context.Context, prefix string) (until time.Time, err error) {
	if l.cfg.Journal == nil {
		return until, fmt.Errorf("erase from a fleet log that is only read: %w", errors.ErrUnsupported)
	}
	if err := l.begin(ctx); err != nil {
		return until, err
	}
	release, err := l.exclude(ctx, prefix)
	if err != nil {
		return until, err
	}
	defer release()
	held, err := l.cfg.Journal.Holds(ctx, prefix)
	if err != nil {
		return until, err
	}
	l.mu.Lock()
	forget := len(l.tails[prefix]) > 0
	l.mu.Unlock()
	var newest time.Time
	if forget {
		newest = l.cfg.Now()
	}
	for _, h := range held {
		forget = forget || !h.Void
		if h.Created.After(newest) {
			newest = h.Created
		}
	}
	if forget {
		if err := l.forget(ctx, prefix); err != nil {
			return until, err
		}
	}
	if newest.IsZero() {
		return until, nil
	}
	until = newest.Add(l.cfg.Journal.Retention())
	if now := l.cfg.Now(); until.Before(now) {
		until = now
	}
	return until.Add(2 * l.cfg.UnpackInterval), nil
}

// forget has the journal say that a prefix is void, and lets go of its tail when that is
// acknowledged, also if nobody waits for it any more.
func (l *Log) forget(ctx context.Context, prefix string) error {
	done := make(chan error, 1)
	err := l.cfg.Journal.Forget(ctx, prefix, func(_ journal.Place, err error) {
		if err == nil {
			l.letGo(prefix)
		}
		done <- fenced(err)
	})
	if err != nil {
		return fenced(err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("the fleet log has not acknowledged that %s is erased: %w", prefix, context.Cause(ctx)), l.cfg.Journal.Stats().Failing)
	}
}

// letGo drops the tail of a prefix. What is not durable came after it was erased.
func (l *Log) letGo(prefix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(prefix, func(f *tailFile) bool {
		if !f.durable {
			return false
		}
		for o := range f.places() {
			l.cfg.Journal.Unpacked(o.epoch, o.seq)
		}
		return true
	})
	delete(l.known, prefix)
}

// exclusion is who unpacks or erases a prefix.
type exclusion struct {
	unpackers int
	erasing   bool
	changed   chan struct{} // closed when one of them has ended
}

// exclude waits until nobody unpacks or erases a prefix, and keeps others from it.
func (l *Log) exclude(ctx context.Context, prefix string) (release func(), err error) {
	return l.enter(ctx, prefix, func(x *exclusion) bool { return x.unpackers == 0 && !x.erasing },
		func(x *exclusion, in bool) { x.erasing = in })
}

// share waits until nobody erases a prefix.
func (l *Log) share(ctx context.Context, prefix string) (release func(), err error) {
	return l.enter(ctx, prefix, func(x *exclusion) bool { return !x.erasing }, func(x *exclusion, in bool) {
		if x.unpackers--; in {
			x.unpackers += 2
		}
	})
}

func (l *Log) enter(ctx context.Context, prefix string, may func(*exclusion) bool, set func(x *exclusion, in bool)) (release func(), err error) {
	for {
		l.mu.Lock()
		x := l.excluded[prefix]
		if x == nil {
			x = &exclusion{changed: make(chan struct{})}
			l.excluded[prefix] = x
		}
		changed := x.changed
		ok := may(x)
		if ok {
			set(x, true)
		}
		l.mu.Unlock()
		if ok {
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				set(x, false)
				close(x.changed)
				if x.changed = make(chan struct{}); x.unpackers == 0 && !x.erasing {
					delete(l.excluded, prefix) // who waits makes another
				}
			}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
