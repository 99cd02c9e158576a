package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// What a process does that has its epoch beside others (Config.Share). One caller at a time:
// the order of what changes the map is the caller's.

// takes reports whether a log is taken over at the beginning: one of a former life of this node. What
// is sealed already is read with it, as that life may have ended while it unpacked it.
func (j *Journal) takes(m *format.Map, live format.Live) bool {
	ended := func(l format.Live) bool { return slices.Contains(j.cfg.Ended, l.Life) }
	return ended(live) || live.Sealed != 0 && slices.ContainsFunc(m.Live, ended)
}

// learn takes in a map that was read.
func (j *Journal) learn(m *format.Map) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if m != nil && (j.known == nil || m.Number > j.known.Number) {
		j.known = m
	}
}

// Map is the newest map that this Journal has read; nil before the log has begun. It is not to
// be changed.
func (j *Journal) Map() *format.Map {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known
}

// Refresh reads the newest map: one LIST, and one more with a GET if there is a newer one.
func (j *Journal) Refresh(ctx context.Context) (*format.Map, error) {
	look := fleetlog.NewChange(j.cfg.Life, 0, j.Map(), func(*format.Map) error { return errLooked })
	if _, err := j.req.change(ctx, look); !errors.Is(err, errLooked) {
		return j.Map(), err
	}
	j.learn(look.Map())
	return j.Map(), nil
}

// change makes a change of the map as of now.
func (j *Journal) change(ctx context.Context, edit func(*format.Map) error) error {
	return j.carryOut(ctx, fleetlog.NewChange(j.cfg.Life, j.cfg.Now().UnixMilli(), j.Map(), edit))
}

func (j *Journal) carryOut(ctx context.Context, c *fleetlog.Change) error {
	failpoint.Hit("fleetlog.map.before")
	m, err := j.req.change(ctx, c)
	failpoint.Hit("fleetlog.map.after")
	if err = failpoint.Err("fleetlog.map.lost", err); err == nil || errors.Is(err, fleetlog.ErrMoved) {
		j.learn(m)
	}
	return err
}

// Begin begins the log, if it has not begun, and returns its epoch.
func (j *Journal) Begin(ctx context.Context) (epoch uint64, err error) {
	if err := j.join(ctx); err != nil {
		return 0, err
	}
	return j.Stats().Epoch, nil
}

// Taken is what logs have that were taken over.
type Taken struct {
	Epochs []uint64      // of these logs
	Logs   []*format.Log // the objects that count, in their order
	// Known are those of logs that were read before, where a shard was another's that is this process's by now.
	Known []*format.Log
	// Ours are the shards that this process has got with them; nil: all. What the logs have of another shard is in the
	// prefixes, or its owner knows of it, or has erased it: it is for nobody else to unpack.
	Ours map[int]bool
}

// Has reports whether a prefix is of a shard that came with the logs.
func (t Taken) Has(prefix string) bool { return t.Ours == nil || t.Ours[format.Shard(prefix)] }

// heritage is the shards that come with logs that are taken over; nil: all.
type heritage struct {
	shards map[int]bool
	donors map[uint64]bool // who had them last
	beside []*format.Log   // see lookBeside
}

// inherits is what comes from some owners.
func inherits(m *format.Map, from func(owner uint64) bool) *heritage {
	h := &heritage{map[int]bool{}, map[uint64]bool{}, nil}
	for s, owner := range m.Owners {
		if owner != 0 && from(owner) {
			h.shards[s], h.donors[owner] = true, true
		}
	}
	return h
}

// lookBeside reads what other nodes have that may make records void: those of a log from before that of who had the shards last.
// In between the shard may have been another node's, which has erased something and says so in its own log alone (F9).
func (j *Journal) lookBeside(ctx context.Context, m *format.Map, h *heritage, tails []*fleetlog.Tail) error {
	read, needed := map[uint64]bool{}, false
	for _, t := range tails {
		for _, l := range fleetlog.Unreleased(t.Objects()) {
			read[l.Epoch] = true
			needed = needed || h.shards != nil && !h.donors[l.Epoch] && slices.ContainsFunc(l.Records, func(r format.Record) bool { return h.shards[format.Shard(r.Prefix)] })
		}
	}
	if !needed {
		return nil
	}
	h.beside = nil
	for _, live := range m.Live {
		if read[live.Epoch] {
			continue
		}
		logs, err := j.req.objects(ctx, live.Epoch, false)
		if err != nil {
			return err
		}
		for _, l := range logs {
			if len(l.Forgets) > 0 {
				h.beside = append(h.beside, l)
			}
		}
	}
	return nil
}

// TakeOver ends the log of another epoch, whose process is thought to have ended, and takes all
// of its shards (F3, F7). It returns what that log has, and the logs
// that were sealed before and are not finished: that process may not have unpacked all of
// them. None of the shards may be served before the caller has taken that
// in. It is not an error that another process was faster: Map says who has the shards.
func (j *Journal) TakeOver(ctx context.Context, epoch uint64) (taken Taken, err error) {
	self, err := j.Begin(ctx)
	if err != nil {
		return Taken{}, err
	} else if epoch == self {
		return Taken{}, fmt.Errorf("epoch %d is that of this process", epoch)
	}
	if j.doubt != nil {
		return Taken{}, errors.New("it is not known yet what became of the take-over before")
	}
	read := map[uint64]*fleetlog.Takeover{}
	for {
		m, err := j.Refresh(ctx)
		if err != nil {
			return Taken{}, err
		}
		if i := m.Find(epoch); i < 0 || m.Live[i].Sealed != 0 {
			return Taken{}, nil
		}
		for _, live := range m.Live {
			if live.Epoch != epoch && !j.lacks(live) || read[live.Epoch] != nil {
				continue
			}
			t := fleetlog.NewTakeover(format.Seal{Author: j.cfg.Life, Epoch: live.Epoch, Next: m.Next, Created: j.cfg.Now().UnixMilli(), Who: j.cfg.Node})
			if err := j.takeOver(ctx, t); err != nil {
				return Taken{}, fmt.Errorf("take over epoch %d of %q: %w", live.Epoch, live.Node, err)
			}
			read[live.Epoch] = t
		}
		failpoint.Hit("cluster.takeover.sealed")
		j.doubt = j.heir(m, self, epoch, read)
		if taken, err = j.Resume(ctx); !errors.Is(err, errUnread) {
			return taken, err
		}
	}
}

// doubt is a take-over of which it is not known yet whether the map has it.
type doubt struct {
	ended  Ended
	read   map[uint64]*fleetlog.Takeover
	change *fleetlog.Change
	came   *heritage // as the change has it that was made
}

// errUnread: another log was sealed since the map was read.
var errUnread = errors.New("another log was taken over meanwhile")

// heir is the change that makes this process the owner of what a log has that it has sealed.
func (j *Journal) heir(m *format.Map, self, epoch uint64, read map[uint64]*fleetlog.Takeover) *doubt {
	d := &doubt{ended: Ended{epoch, m.Live[m.Find(epoch)].Node}, read: read}
	d.change = fleetlog.NewChange(j.cfg.Life, j.cfg.Now().UnixMilli(), m, func(m *format.Map) error {
		if i := m.Find(epoch); i < 0 || m.Live[i].Sealed != 0 {
			return fleetlog.ErrMoved // whoever was faster has read it too
		}
		// The owner of this log may have taken another one over just before it was sealed.
		if slices.ContainsFunc(m.Live, func(live format.Live) bool { return j.lacks(live) && read[live.Epoch] == nil }) {
			return errUnread
		}
		d.came = inherits(m, func(owner uint64) bool { return owner == epoch })
		return fleetlog.TakeOver(m, epoch, read[epoch].Seal().Seq, self)
	})
	return d
}

// Resume ends a TakeOver that has failed when it changed the map: it may have done so, and then
// this process is the owner of shards of which it has not told anybody yet what is in the logs.
// So nothing else may be asked of the map before it has returned nil. It returns what TakeOver would
// have.
func (j *Journal) Resume(ctx context.Context) (taken Taken, err error) {
	d := j.doubt
	if d == nil {
		return Taken{}, nil
	}
	failpoint.Hit("fleetlog.map.before")
	m, err := j.req.change(ctx, d.change)
	failpoint.Hit("fleetlog.map.after")
	if failed := failpoint.Err("fleetlog.map.lost", err); failed != nil && err == nil {
		return Taken{}, failed // the next one finds that it has ended
	}
	if done, _ := d.change.Done(); !done {
		return Taken{}, err
	}
	known := j.knownTails(m, d.read)
	if err == nil { // it is this process's, and of others no more can come that makes something of it void
		tails := slices.Clone(known)
		for _, t := range d.read {
			tails = append(tails, t.Tail)
		}
		if err := j.lookBeside(ctx, m, d.came, tails); err != nil {
			return Taken{}, err
		}
	}
	j.doubt = nil
	switch j.learn(m); {
	case errors.Is(err, fleetlog.ErrMoved):
		return Taken{}, nil
	case err != nil:
		if !errors.Is(err, fleetlog.ErrFenced) && !errors.Is(err, errUnread) { // it may own what it does not know of
			j.Fence(fmt.Sprintf("it cannot be told whether a take-over came true: %v", err))
		}
		return Taken{}, err
	}
	var epochs []uint64
	var logs []*format.Log
	j.mu.Lock()
	for _, epoch := range slices.Sorted(maps.Keys(d.read)) {
		t := d.read[epoch]
		if m.Find(epoch) >= 0 { // else it was finished meanwhile: the prefixes have all of it
			j.tails = append(j.tails, t.Tail)
			epochs = append(epochs, epoch)
			logs = append(logs, t.Objects()...)
		}
	}
	j.mu.Unlock()
	if j.cfg.TookOver != nil {
		j.cfg.TookOver(d.ended)
	}
	var before []*format.Log
	for _, t := range known {
		before = append(before, t.Objects()...)
	}
	counts := func(logs, others []*format.Log) []*format.Log {
		return fleetlog.Unreleased(fleetlog.Remembered(logs, slices.Concat(others, d.came.beside)...))
	}
	return Taken{epochs, counts(logs, before), counts(before, logs), d.came.shards}, nil
}

// knownTails are the logs that were taken over before, and are not finished by a map.
func (j *Journal) knownTails(m *format.Map, but map[uint64]*fleetlog.Takeover) (known []*fleetlog.Tail) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.tails {
		if s := t.Seal(); s != nil && but[s.Epoch] == nil && m != nil && m.Find(s.Epoch) >= 0 {
			known = append(known, t)
		}
	}
	return known
}

// lacks reports whether a log is sealed, and not known here: whoever takes over reads it too, as the
// process that it takes over from may not have unpacked all of it.
func (j *Journal) lacks(live format.Live) bool {
	return live.Sealed != 0 && live.Epoch != j.Stats().Epoch && !j.has(live.Epoch)
}

// has reports whether a log was taken over, and is not finished.
func (j *Journal) has(epoch uint64) bool { return slices.Contains(j.Former(), epoch) }

// Over forgets the logs that were taken over and that another process has finished since, and
// returns their epochs: the prefixes have all of them (F8).
func (j *Journal) Over() (epochs []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.known == nil {
		return nil
	}
	j.tails = slices.DeleteFunc(j.tails, func(t *fleetlog.Tail) bool {
		s := t.Seal()
		if s == nil || !j.known.Finished(s.Epoch) {
			return false
		}
		epochs = append(epochs, s.Epoch)
		return true
	})
	if len(epochs) > 0 {
		j.unpinLocked()
	}
	return epochs
}

// Claim takes those of the shards that nobody owns.
func (j *Journal) Claim(ctx context.Context, shards []int) error {
	self, err := j.Begin(ctx)
	if err != nil {
		return err
	}
	err = j.change(ctx, func(m *format.Map) error { return fleetlog.Claim(m, shards, self) })
	if errors.Is(err, fleetlog.ErrMoved) {
		return nil // others were faster
	}
	return err
}

// Release gives shards up (F6): it returns when an acknowledged object of the log says so. The
// caller has put all that there was of them into the log, puts nothing more, and calls Give.
func (j *Journal) Release(ctx context.Context, shards []int) error {
	if err := j.join(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	j.mu.Lock()
	err := j.err
	if err == nil && j.closing {
		err = ErrClosed
	}
	if err == nil {
		w := &write{release: shards, done: func(_ Place, err error) { done <- err }}
		if len(j.unacked) == 0 {
			j.stats.Waiting = j.cfg.Now()
		}
		j.queue = append(j.queue, w)
		j.unacked[w] = struct{}{}
		j.hurry = true
		j.hurryLocked()
		j.poke()
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gift is a Give of which it is not known whether the map has it.
type gift struct {
	shards []int
	to     uint64
	change *fleetlog.Change
}

// Give has the map name another epoch as the owner of shards that Release gave up; 0, or one
// that has ended: nobody. Where the map names somebody else by now, it stays. What Map returns
// afterwards is at least as new as the end of the Give (M3).
//
// After an error the same Give goes on with the change that it has begun: that may have come true, and who
// got the shards may have given them back by now, which another change would take for the time before.
func (j *Journal) Give(ctx context.Context, shards []int, to uint64) error {
	self, err := j.Begin(ctx)
	if err != nil {
		return err
	}
	g := j.gift
	if g == nil || g.to != to || !slices.Equal(g.shards, shards) {
		g = &gift{shards: slices.Clone(shards), to: to}
		g.change = fleetlog.NewChange(j.cfg.Life, j.cfg.Now().UnixMilli(), j.Map(), func(m *format.Map) error {
			given := false
			for _, s := range g.shards {
				switch err := fleetlog.Give(m, s, self, to); {
				case err == nil:
					given = true
				case !errors.Is(err, fleetlog.ErrMoved):
					return err
				}
			}
			if !given {
				return fleetlog.ErrMoved
			}
			return nil
		})
	}
	j.gift = nil
	err = j.carryOut(ctx, g.change)
	if errors.Is(err, fleetlog.ErrMoved) {
		return nil // it was taken over: the next object finds the seal
	} else if done, failed := g.change.Done(); err != nil && (!done || failed == nil) {
		j.gift = g
	}
	return err
}

// Fence ends the log at once because the map says that another process has sealed it, as one
// that writes nothing does not meet the seal.
func (j *Journal) Fence(why string) {
	j.stop(fmt.Errorf("%w: %s", fleetlog.ErrFenced, why))
}

// Alone reports whether no other epoch may write now, by the newest map that is known.
func (j *Journal) Alone() bool {
	m := j.Map()
	if m == nil {
		return true
	}
	self := j.Stats().Epoch
	return !slices.ContainsFunc(m.Live, func(l format.Live) bool { return l.Epoch != self && l.Sealed == 0 })
}

// otherEnds are the ends of the logs that others write now, up to which an erasure makes records
// void: they have none of the prefix to come, as its shard is this process's.
func (j *Journal) otherEnds(ctx context.Context) (marks []format.Mark, err error) {
	if !j.cfg.Share {
		return nil, nil
	}
	m, err := j.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	self := j.Stats().Epoch
	for _, live := range m.Live {
		if live.Epoch == self || j.has(live.Epoch) {
			continue
		}
		listed, err := j.req.log(ctx, live.Epoch)
		if err != nil {
			return nil, err
		}
		var last uint64
		for _, l := range listed {
			last = max(last, l.Seq)
		}
		if last > 0 {
			marks = append(marks, format.Mark{Epoch: live.Epoch, Seq: last + 1})
		}
	}
	return marks, nil
}

// Settle lets go of what erasures have kept for the sake of logs of others, as soon as these are
// finished, or trimmed beyond it. It makes requests only if something was erased.
func (j *Journal) Settle(ctx context.Context) error {
	j.mu.Lock()
	waiting := maps.Clone(j.others)
	j.mu.Unlock()
	for epoch, seq := range waiting {
		over := j.Map().Finished(epoch)
		if !over {
			listed, err := j.req.log(ctx, epoch)
			if err != nil {
				return err
			}
			var newest fleetlog.Listed
			for _, l := range listed {
				if l.Seq > newest.Seq {
					newest = l
				}
			}
			if newest.Seq > 0 {
				e, err := j.req.entry(ctx, epoch, newest.Seq, newest.Size)
				if err != nil {
					return err
				}
				over = e != nil && e.Trim() >= seq
			}
		}
		if over {
			j.mu.Lock()
			if j.others[epoch] == seq {
				delete(j.others, epoch)
			}
			j.unpinLocked()
			j.mu.Unlock()
		}
	}
	return nil
}

// merged is two lists of marks, ascending, as one.
func merged(a, b []format.Mark) []format.Mark {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y format.Mark) int { return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(y.Seq, x.Seq)) })
	return slices.CompactFunc(all, func(x, y format.Mark) bool { return x.Epoch == y.Epoch })
}
