// Package owner is a Manager's side of its fleet log: it begins the log, gives the
// databases' clients, tells of what happens to it, and unpacks what is left, its own and
// that of logs that were taken over.
//
// It has no lock: what changes is the journal's and the client's. Safe for concurrent use
// after SetConductor.
package owner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/client"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// Config is what a Log works with. All is required.
type Config struct {
	Objects store.Objects // the directory of the log
	Path    string        // of that directory, for people
	Node    string        // where this process is found, for people

	SyncInterval, UnpackInterval, Retention time.Duration

	// Share: other nodes have epochs beside this one; see journal.Config. Life is this
	// process's, and random if it is zero. GiveUp is called by Close when the prefixes have
	// everything, before the log ends.
	Share  bool
	Check  func(ctx context.Context) (refused bool, err error) // see journal.Config; nil: not
	Life   format.ID
	Ended  []format.ID
	GiveUp func(ctx context.Context) error

	// Prefix is the name of a database's prefix, by which the fleet knows it.
	Prefix func(registry.Database) fleet.Prefix
	// Dir is the directory of a database at the replica, by which the log knows it.
	Dir func(registry.Database) (string, error)
	// Client is the client of a database's prefix, and ClientAt that of a directory's.
	Client   func(registry.Database) (litestream.ReplicaClient, error)
	ClientAt func(dir string) (litestream.ReplicaClient, error)

	Emit   func(fleet.Event)
	Now    func() time.Time
	Logger *slog.Logger
}

// Log is the fleet log of a Manager.
type Log struct {
	cfg       Config
	cur       atomic.Pointer[life]
	conductor *conduct.Conductor
	more      chan struct{} // holds one: something was taken over since the log began

	mu    sync.Mutex
	taken map[string]bool // the directories of which logs had something that were taken over, until Named
}

// life is the log of one epoch, or of none yet.
type life struct {
	journal *journal.Journal
	client  *client.Log
}

// New returns a Log that has begun nothing: the first write does.
func New(cfg Config) *Log {
	l := &Log{cfg: cfg, more: make(chan struct{}, 1), taken: map[string]bool{}}
	id := cfg.Life
	if id == (format.ID{}) {
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	}
	l.cur.Store(l.begin(id, cfg.Ended))
	return l
}

func (l *Log) now() *life { return l.cur.Load() }

// begin makes the log of one process life.
func (l *Log) begin(id format.ID, ended []format.ID) *life {
	cfg, this := &l.cfg, new(life)
	this.journal = journal.New(journal.Config{
		Store: cfg.Objects, Life: id, Node: cfg.Node, Share: cfg.Share, Ended: ended, Check: cfg.Check, Interval: cfg.SyncInterval, Retention: cfg.Retention,
		Now: cfg.Now, Logger: cfg.Logger, Began: l.began, Fenced: l.fenced,
		Failed:   func(err error) { this.client.Failed(err); l.conductor.Unacknowledged(err) },
		TookOver: func(e journal.Ended) { l.tell(fleet.EventFleetLogTakenOver, e.Epoch, e.Node, nil) },
		Finished: func(epoch uint64) { l.tell(fleet.EventFleetLogFinished, epoch, cfg.Path, nil) },
	})
	this.client = client.New(client.Config{
		Journal: this.journal, Objects: cfg.Objects, UnpackInterval: cfg.UnpackInterval, Now: cfg.Now,
		Durable: func(prefix string, txid ltx.TXID, err error) { l.conductor.Durable(prefix, txid, err) },
	})
	return this
}

// SetConductor says who is told what is durable, before the first use.
func (l *Log) SetConductor(c *conduct.Conductor) { l.conductor = c }

// Client returns the client of a database's prefix, with the log in front of it.
func (l *Log) Client(db registry.Database) (litestream.ReplicaClient, error) {
	inner, err := l.cfg.Client(db)
	if err != nil {
		return nil, err
	}
	at := l.cfg.Prefix(db)
	if at.Err != nil {
		return nil, at.Err
	}
	dir, err := l.cfg.Dir(db)
	if err != nil {
		return nil, err
	}
	return l.now().client.Client(at.Path, dir, inner), nil
}

// Erase makes void what the logs have of a database; see client.Client.Erase.
func (l *Log) Erase(ctx context.Context, db registry.Database) (until time.Time, err error) {
	c, err := l.Client(db)
	if err != nil {
		return until, err
	}
	return c.(*client.Client).Erase(ctx)
}

// Hurry has the log written sooner: somebody waits.
func (l *Log) Hurry() {
	if l != nil {
		l.now().journal.Hurry()
	}
}

// Stop ends the log at once, for a process that has failed to start.
func (l *Log) Stop() { l.now().journal.Stop() }

// Close gives the prefixes what the log has, and ends it. If ctx ends first, it is to be
// called again. What could not be unpacked is durable in the log, and the next process
// unpacks it.
func (l *Log) Close(ctx context.Context) error {
	tails := map[string]bool{}
	for _, dir := range l.now().client.Prefixes() {
		tails[dir] = true
	}
	err := l.conductor.Unpack(ctx, func(db registry.Database) bool {
		dir, err := l.cfg.Dir(db)
		return err == nil && tails[dir]
	})
	// Then that of databases that only another process knows, or whose file is gone.
	if left := l.now().client.UnpackAll(ctx, l.cfg.ClientAt); left != nil {
		l.cfg.Logger.Warn("multidb: the fleet log has what some prefixes lack", "err", errors.Join(err, left))
	}
	if err := l.now().client.FinishFormer(ctx); err != nil {
		l.cfg.Logger.Warn("multidb: a former fleet log is not finished", "err", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if l.cfg.GiveUp != nil && err == nil && len(l.now().client.Prefixes()) == 0 {
		if err := l.cfg.GiveUp(ctx); err != nil {
			l.cfg.Logger.Warn("multidb: the other nodes have to take the shards of this one over", "err", err)
		}
	}
	if err := l.now().journal.Close(ctx); errors.Is(err, fleetlog.ErrFenced) {
		return fmt.Errorf("%w: %w", ship.ErrFenced, err)
	} else if err != nil {
		return err
	}
	return nil
}

// UnpackFormer gives the prefixes what logs that were taken over have, and finishes those
// logs. It returns when none is left, or ctx ends.
func (l *Log) UnpackFormer(ctx context.Context) {
	select {
	case <-l.now().journal.Begun():
	case <-ctx.Done():
		return
	}
	for {
		l.unpackFormer(ctx)
		if !l.cfg.Share {
			return
		}
		select {
		case <-l.more:
		case <-ctx.Done():
			return
		}
	}
}

// again has what was taken over just now unpacked.
func (l *Log) again() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *Log) unpackFormer(ctx context.Context) {
	l.conductor.UnpackFormer(ctx, conduct.Former{
		Prefixes: func(ctx context.Context) ([]string, error) { return l.now().client.Former(ctx) }, // of this life, also after Anew
		Dir:      l.cfg.Dir, Every: l.cfg.UnpackInterval, More: l.more, Warn: l.cfg.Logger.Warn,
		Unpack: func(ctx context.Context, dir string) error {
			inner, err := l.cfg.ClientAt(dir)
			if err == nil {
				_, err = l.now().client.Unpack(ctx, dir, inner, true)
			}
			return err
		},
		Finish: func(ctx context.Context) (left bool, err error) {
			err = errors.Join(l.now().client.Look(ctx, l.cfg.ClientAt), l.now().client.FinishFormer(ctx))
			return l.now().journal.Err() == nil && len(l.now().journal.Former()) > 0, err
		},
	})
}

// Stats is what the log did and has.
func (l *Log) Stats() client.Stats { return l.now().client.Stats() }

// Err is why the log is not well, and since when; nil if it is. maxLag is how long a file
// may wait.
func (l *Log) Err(maxLag time.Duration) (since time.Time, err error) {
	s, name := l.now().journal.Stats(), l.cfg.Path
	if s.Epoch != 0 {
		name = fmt.Sprintf("%s, epoch %d", name, s.Epoch)
	}
	late := l.cfg.Now().Sub(s.Waiting)
	switch {
	case s.Fenced:
		return s.Ended, fmt.Errorf("fleet log %s: %w: %w", name, ship.ErrFenced, l.now().journal.Err())
	case s.Failing != nil:
		return s.FailingSince, fmt.Errorf("fleet log %s: %w", name, s.Failing)
	case s.Queued > 0 && late > maxLag:
		return s.Waiting, fmt.Errorf("fleet log %s: no object was acknowledged for %s, and %d files wait",
			name, late.Round(time.Millisecond), s.Queued)
	}
	return time.Time{}, nil
}

// began tells of the log of this process, and of those that it has ended.
func (l *Log) began(epoch uint64, ended []journal.Ended) {
	for _, e := range ended {
		l.tell(fleet.EventFleetLogTakenOver, e.Epoch, e.Node, nil)
	}
	l.tell(fleet.EventFleetLogBegun, epoch, l.cfg.Path, nil)
}

// fenced refuses every database, as another process has taken over.
func (l *Log) fenced(err error) {
	err = fmt.Errorf("%w: %w", ship.ErrFenced, err)
	l.conductor.Fence(err)
	l.tell(fleet.EventFleetLogFenced, l.now().journal.Stats().Epoch, l.cfg.Path, err)
}

func (l *Log) tell(what fleet.EventType, epoch uint64, path string, err error) {
	l.cfg.Emit(fleet.Event{Type: what, Path: path, Epoch: epoch, Err: err})
}
