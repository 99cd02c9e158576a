package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// pauses are the pauses between attempts.
type pauses struct{ next, most time.Duration }

func (p *pauses) take() time.Duration {
	d := max(p.next, 100*time.Millisecond)
	p.next = min(2*d, p.most)
	return d
}

// begin joins the map with an epoch, after it has sealed and read every log that is live,
// and takes all shards. It goes on trying while the store does not answer.
func (j *Journal) begin(ctx context.Context) (*fleetlog.Writer, error) {
	pause := pauses{most: j.cfg.MaxPause}
	former := map[uint64]*fleetlog.Takeover{} // what a try has read, the next need not read
	for tries := 0; ; {
		refused, err := j.check(ctx)
		if refused {
			return nil, err
		}
		var epoch uint64
		var tails []*fleetlog.Tail
		var over map[uint64]bool
		var ended []Ended
		var came *heritage
		if err == nil {
			epoch, tails, over, ended, came, err = j.tryJoin(ctx, former)
		}
		switch {
		case err == nil:
			j.mu.Lock()
			j.tails, j.over, j.ours, j.beside, j.stats.Epoch, j.failing = tails, over, came.shards, came.beside, epoch, nil
			j.mu.Unlock()
			close(j.joined)
			if j.cfg.Began != nil {
				j.cfg.Began(epoch, ended)
			}
			return fleetlog.NewWriter(j.cfg.Life, epoch), nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case final(err):
			return nil, err
		case j.cfg.Share && errors.Is(err, errJoined): // some node took another one over meanwhile
			continue
		}
		j.cfg.Logger.Warn("multidb: the fleet log cannot begin", "err", err)
		if j.failed(err); j.givesUp(&tries) {
			return nil, err
		}
		if err := j.pause(ctx, pause.take()); err != nil {
			return nil, err
		}
	}
}

// check is Config.Check.
func (j *Journal) check(ctx context.Context) (refused bool, err error) {
	if j.cfg.Share || j.cfg.Check == nil {
		return false, nil
	}
	return j.cfg.Check(ctx)
}

// givesUp counts the failures of a closing Journal, and reports whether there were enough.
func (j *Journal) givesUp(tries *int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		*tries++
	}
	return *tries >= attempts
}

// errJoined: since the map was read another process has joined, or with Config.Share has ended a log
// that is to be read.
var errJoined = errors.New("another process has joined the fleet log meanwhile")

// final reports whether an error of the store does not pass by trying again.
func final(err error) bool {
	return errors.Is(err, format.ErrNewer) || errors.Is(err, store.ErrNoConditionalWrites)
}

// tryJoin tries once what begin does. What another try has changed is found again.
func (j *Journal) tryJoin(ctx context.Context, former map[uint64]*fleetlog.Takeover) (epoch uint64, tails []*fleetlog.Tail, over map[uint64]bool, ended []Ended, came *heritage, err error) {
	created := j.cfg.Now().UnixMilli()
	look := fleetlog.NewChange(j.cfg.Life, created, nil, func(*format.Map) error { return errLooked })
	if _, err := j.req.change(ctx, look); !errors.Is(err, errLooked) {
		return 0, nil, nil, nil, nil, err
	}
	m := look.Map()
	sealed := map[uint64]uint64{}
	for _, live := range m.Live {
		if live.Life == j.cfg.Life || j.cfg.Share && !j.takes(m, live) {
			continue
		}
		t := former[live.Epoch]
		if t == nil {
			t = fleetlog.NewTakeover(format.Seal{Author: j.cfg.Life, Epoch: live.Epoch, Next: m.Next, Created: created, Who: j.cfg.Node})
			former[live.Epoch] = t
		}
		if err := j.takeOver(ctx, t); err != nil {
			return 0, nil, nil, nil, nil, fmt.Errorf("take over epoch %d of %q: %w", live.Epoch, live.Node, err)
		}
		sealed[live.Epoch] = t.Seal().Seq
		tails = append(tails, t.Tail)
		ended = append(ended, Ended{live.Epoch, live.Node})
	}
	failpoint.Hit("fleetlog.map.before")
	joined, err := j.req.change(ctx, fleetlog.NewChange(j.cfg.Life, created, m, func(m *format.Map) error {
		if fleetlog.EpochOf(m, j.cfg.Life) == 0 {
			if err := fleetlog.Join(m, j.cfg.Life, j.cfg.Node); err != nil {
				return err
			}
		}
		epoch, came = fleetlog.EpochOf(m, j.cfg.Life), new(heritage)
		if j.cfg.Share {
			came = inherits(m, func(owner uint64) bool { _, ours := sealed[owner]; return ours || owner == epoch })
		}
		for _, live := range m.Live {
			seq, ours := sealed[live.Epoch]
			if live.Epoch == epoch || !ours && j.cfg.Share && !j.takes(m, live) {
				continue
			} else if !ours {
				return errJoined
			}
			if err := fleetlog.TakeOver(m, live.Epoch, seq, epoch); err != nil {
				return err
			}
		}
		if j.cfg.Share {
			return nil
		}
		if err := fleetlog.Claim(m, allShards, epoch); err != nil && !errors.Is(err, fleetlog.ErrMoved) {
			return err
		}
		return nil
	}))
	failpoint.Hit("fleetlog.map.after")
	if err = failpoint.Err("fleetlog.map.lost", err); err != nil {
		return 0, nil, nil, nil, nil, err
	}
	over = map[uint64]bool{}
	for epoch := range sealed {
		over[epoch] = joined.Find(epoch) < 0
	}
	j.learn(joined)
	if err := j.lookBeside(ctx, joined, came, tails); err != nil {
		return 0, nil, nil, nil, nil, err
	}
	return epoch, tails, over, ended, came, nil
}

// errLooked ends a Change that only reads the map.
var errLooked = errors.New("looked")

var allShards = func() (all []int) {
	for s := range format.Shards {
		all = append(all, s)
	}
	return all
}()

// takeOver seals the log of an epoch and reads it.
func (j *Journal) takeOver(ctx context.Context, t *fleetlog.Takeover) error {
	for !t.Done() {
		asks, err := t.Asks()
		if err != nil {
			return err
		}
		if asks[0].Op != fleetlog.Create {
			if err := j.req.read(ctx, t.Tail, asks); err != nil {
				return err
			}
			continue
		}
		failpoint.Hit("fleetlog.seal.before")
		outcome, err := j.req.create(ctx, asks[0])
		failpoint.Hit("fleetlog.seal.after")
		t.Answered(outcome)
		if err != nil {
			return err
		}
	}
	return nil
}
