package owner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/registry"
)

// Shared is the log of a process that has its epoch beside others, as a node of a cluster
// uses it.
type Shared struct{ l *Log }

// Shared returns the log of Config.Share.
func (l *Log) Shared() Shared { return Shared{l} }

func (s Shared) journal() *journal.Journal { return s.l.now().journal }

// Begin begins the log, and takes in what former lives of this node have left.
func (s Shared) Begin(ctx context.Context) (epoch uint64, err error) {
	if epoch, err = s.journal().Begin(ctx); err == nil {
		err = s.l.now().client.Begin(ctx)
	}
	var former []string
	if err == nil {
		former, err = s.l.now().client.Former(ctx)
	}
	s.l.take(former)
	return epoch, err
}

// take remembers directories of which a log had something that was taken over: they may be in
// their prefixes before anybody has looked whose they are.
func (l *Log) take(dirs []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, dir := range dirs {
		l.taken[dir] = true
	}
}

// TakeOver ends the log of another epoch; what it had that no prefix has is known when it
// returns, and is unpacked in the background.
func (s Shared) TakeOver(ctx context.Context, epoch uint64) error {
	return s.takeIn(s.journal().TakeOver(ctx, epoch))
}

func (s Shared) takeIn(taken journal.Taken, err error) error {
	if err == nil && len(taken.Epochs) > 0 {
		s.l.now().client.TakeIn(taken)
		for _, log := range slices.Concat(taken.Logs, taken.Known) {
			for _, rec := range log.Records {
				if taken.Has(rec.Prefix) {
					s.l.take([]string{rec.Prefix})
				}
			}
		}
	}
	if err == nil {
		s.l.again()
	}
	return err
}

// resume ends a TakeOver of which it is not known whether it came true. Before that nobody may
// learn of the map who owns what.
func (s Shared) resume(ctx context.Context) error {
	taken, err := s.journal().Resume(ctx)
	if err != nil {
		return fmt.Errorf("end a take-over: %w", err)
	} else if len(taken.Epochs) > 0 {
		return s.takeIn(taken, nil)
	}
	return nil
}

// Map is journal.Journal.Map.
func (s Shared) Map() *format.Map { return s.journal().Map() }

// Refresh is journal.Journal.Refresh. What others have finished is let go of.
func (s Shared) Refresh(ctx context.Context) (*format.Map, error) {
	if err := s.resume(ctx); err != nil {
		return s.Map(), err
	}
	m, err := s.journal().Refresh(ctx)
	for _, epoch := range s.journal().Over() {
		s.l.now().client.Over(epoch)
	}
	return m, err
}

// Claim is journal.Journal.Claim.
func (s Shared) Claim(ctx context.Context, shards []int) error {
	if err := s.resume(ctx); err != nil {
		return err
	}
	return s.journal().Claim(ctx, shards)
}

// Release is journal.Journal.Release.
func (s Shared) Release(ctx context.Context, shards []int) error {
	return s.journal().Release(ctx, shards)
}

// Give is journal.Journal.Give.
func (s Shared) Give(ctx context.Context, shards []int, to uint64) error {
	if err := s.resume(ctx); err != nil {
		return err
	}
	return s.journal().Give(ctx, shards, to)
}

// Settle is journal.Journal.Settle.
func (s Shared) Settle(ctx context.Context) error { return s.journal().Settle(ctx) }

// Err is why nothing is written any more; nil: it is.
func (s Shared) Err() error { return s.journal().Err() }

// Fence is journal.Journal.Fence.
func (s Shared) Fence(why string) { s.journal().Fence(why) }

// Anew begins another life after this process was fenced, with a log that has not begun: nobody
// uses clients of the former one any more, and it has told everybody who waited.
func (s Shared) Anew(id format.ID) {
	old := s.l.now()
	old.journal.Stop() // which fences every database, if it had not yet
	s.l.conductor.Unfence()
	s.l.cur.Store(s.l.begin(id, nil))
}

// Lacks reports whether the log has something of a directory that its prefix lacks.
func (s Shared) Lacks(dir string) bool { return s.l.now().client.Tail(dir).Files > 0 }

// UnpackShards gives the prefixes of shards what the log has, also those of databases that nobody
// here knows.
func (s Shared) UnpackShards(ctx context.Context, in func(shard int) bool) error {
	for _, dir := range s.l.now().client.Prefixes() {
		if !in(format.Shard(dir)) {
			continue
		}
		if err := s.l.unpackAt(ctx, dir); err != nil {
			s.l.again() // which may take as long as it needs
			return err
		}
		s.Away(dir)
	}
	// Whoever gets them may erase some, to which nothing may be written then.
	return s.l.now().client.Quiet(ctx, func(dir string) bool { return in(format.Shard(dir)) })
}

// UnpackFor gives the prefix of a database what the log has of it. Nobody uses the database.
func (l *Log) UnpackFor(ctx context.Context, db registry.Database) error {
	dir, err := l.cfg.Dir(db)
	if err != nil || l.now().client.Tail(dir).Files == 0 {
		return err
	}
	return l.unpackAt(ctx, dir)
}

func (l *Log) unpackAt(ctx context.Context, dir string) error {
	inner, err := l.cfg.ClientAt(dir)
	if err == nil {
		_, err = l.now().client.Unpack(ctx, dir, inner, true)
	}
	if err == nil && l.now().client.Tail(dir).Files > 0 {
		err = errors.New("something of it is not durable yet")
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", dir, err)
	}
	return nil
}

// Away is client.Log.Away.
func (s Shared) Away(dir string) { s.l.now().client.Away(dir) }

// Taken are the directories of which logs had something that were taken over, but for those that
// Named was called with since.
func (s Shared) Taken() []string {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return slices.Sorted(maps.Keys(s.l.taken))
}

// Named says that it is known whose a directory is.
func (s Shared) Named(dir string) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	delete(s.l.taken, dir)
}
