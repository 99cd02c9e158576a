package serving

import (
	"context"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/ship"
)

// How many caches are compared with the replica at once, and the pauses after a comparison that
// failed.
const (
	settleAtOnce = 8
	settlePause  = 100 * time.Millisecond
	settleMost   = time.Minute
)

// settle compares the files in the background that may have commits which nobody promised, so
// that they are told of soon, and not only when somebody opens the database. A file that
// lags stays as it is until then.
func (s *Serving) settle(ids []string) {
	if len(ids) == 0 || s.ctx.Err() != nil {
		return
	}
	s.wg.Go(func() {
		slots := make(chan struct{}, settleAtOnce)
		for _, id := range ids {
			select {
			case slots <- struct{}{}:
			case <-s.ctx.Done():
				return
			}
			s.wg.Go(func() {
				defer func() { <-slots }()
				for pause := settlePause; ; pause = min(2*pause, settleMost) {
					if s.settled(s.ctx, id) || ctxio.Sleep(s.ctx, pause) != nil {
						return
					}
				}
			})
		}
	})
}

// settled compares one, and reports whether there is nothing left to do.
func (s *Serving) settled(ctx context.Context, id string) bool {
	e := s.cfg.Fleet.Get(id)
	if e == nil || s.cfg.Fleet.Evicted(e) {
		return true // it went, or its shard did
	}
	_, err := s.cfg.Conductor.Sync(ctx, e)
	if err == nil {
		return true
	} else if !errors.Is(err, ship.ErrFenced) {
		return false
	}
	if s.cfg.Fleet.Fenced() != nil {
		return true // when its shard comes back it is looked at again
	}
	if !s.cfg.Fleet.IsCache(e) {
		return true // an opening has decided
	} else if s.cfg.Fleet.Running(e) {
		return false
	}
	bar := s.cfg.Fleet.TryBar(e)
	if bar == nil {
		return false // it is being opened, which decides
	}
	defer s.cfg.Fleet.Lift(bar)
	if _, _, open := s.cfg.Opener.Peek(e); open || !s.cfg.Fleet.IsCache(e) {
		return false
	}
	if _, err := s.cfg.Opener.SetAside(ctx, id, e.Path()); err != nil {
		return false // the event says so
	}
	<-s.cfg.Fleet.Detach(e)
	return true
}
