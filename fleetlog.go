package multidb

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/client"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/fleetlog/reading"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/superfly/ltx"
)

// FleetLogConfig says where and how the changes of all tenants are written together. The
// zero value is the default.
type FleetLogConfig struct {
	// Path is the directory of the log at the replica, beside the databases' prefixes and
	// not in one of them. Managers with the same one share a log: the later one takes over,
	// and the earlier one is fenced. Default "fleet".
	Path string
	// UnpackInterval is how often the prefix of a tenant that stays hot gets what the log
	// has of it. Default 5 minutes.
	UnpackInterval time.Duration
	// UnpackSize is how much the log has of a tenant, in bytes, before its prefix gets it
	// sooner. Default 8 MiB.
	UnpackSize int64
	// LogRetention is how long the log keeps what the prefixes have, from which a restore
	// finds every transaction. Default 1 hour.
	LogRetention time.Duration
}

// unpackPatience is after how many intervals a prefix that still lacks something makes its
// database not well.
const unpackPatience = 3

func (cfg FleetLogConfig) withDefaults() FleetLogConfig {
	cfg.Path = cmp.Or(cfg.Path, reading.DefaultDir)
	cfg.UnpackInterval = cmp.Or(cfg.UnpackInterval, 5*time.Minute)
	cfg.UnpackSize = cmp.Or(cfg.UnpackSize, 8<<20)
	cfg.LogRetention = cmp.Or(cfg.LogRetention, time.Hour)
	return cfg
}

// WithFleetLog writes the changes of all tenants as one object each sync interval, instead
// of one for each tenant. The replica must be a ReplicaObjects.
func WithFleetLog(cfg FleetLogConfig) Option {
	return func(c *config) error {
		cfg = cfg.withDefaults()
		const option = "WithFleetLog"
		var errs []error
		if why := reading.BadDir(cfg.Path); why != "" {
			errs = append(errs, invalid(option, "Path is %q; %s", cfg.Path, why))
		}
		if cfg.UnpackInterval < 0 {
			errs = append(errs, invalid(option, "UnpackInterval is %v; want a duration above zero", cfg.UnpackInterval))
		}
		if cfg.UnpackSize < 0 {
			errs = append(errs, invalid(option, "UnpackSize is %d; want a size above zero", cfg.UnpackSize))
		}
		if cfg.LogRetention < 0 {
			errs = append(errs, invalid(option, "LogRetention is %v; want a duration above zero", cfg.LogRetention))
		}
		c.fleetLog = &cfg
		return errors.Join(errs...)
	}
}

// checkFleetLog compares the option with the replica.
func (c *config) checkFleetLog() error {
	if c.fleetLog == nil || reading.BadDir(c.fleetLog.Path) != "" {
		return nil
	}
	const option = "WithFleetLog"
	if c.replica == nil {
		return invalid(option, "there is no replica; add multidb.WithReplica")
	}
	r, ok := c.replica.(ReplicaObjects)
	if !ok {
		return invalid(option, "a %T keeps no plain objects; use an S3 or a file replica, or leave the fleet log out", c.replica)
	}
	if _, err := r.Objects(c.fleetLog.Path); err != nil {
		return invalid(option, "Path is %q: %v", c.fleetLog.Path, err)
	}
	return nil
}

// Unpack gives the prefix of a database what the fleet log has of it, so that litestream's
// own restore finds all that was committed before the call. It happens by itself every
// UnpackInterval, when the database becomes cold, and at Close. Without a fleet log it is
// Sync.
//
// ctx bounds the waiting; what was begun goes on. Errors: ErrNotFound, ErrNoReplica, those
// of Sync, as *Error.
func (m *Manager) Unpack(ctx context.Context, id ID) error {
	e, err := m.replicated(id)
	if err == nil {
		_, err = m.conductor.Sync(ctx, e)
	}
	if err == nil && m.fleetLog != nil {
		_, err = m.conductor.Perform(ctx, e, replicate.OrderUnpack)
	}
	return opError("unpack", id, err)
}

// otherLog returns an error if a fleet log that this Manager does not write has what the
// prefix of a database lacks.
func (m *Manager) otherLog(ctx context.Context, id, dir string) error {
	e, err := m.fleet.Lookup(id)
	if err != nil {
		return err
	}
	c, err := readingClient(m.cfg.replica, dir, databaseOf(e.Database()))
	if err != nil {
		return err
	}
	r, ok := c.(*reading.Client)
	if !ok {
		return nil
	}
	if both, prefix, err := r.Ends(ctx); err != nil || both > prefix {
		return errors.Join(err, fmt.Errorf("the fleet log %s has transactions up to %s, and the prefix up to %s: run `multidb unpack`, or start with WithFleetLog once more", dir, both, prefix))
	}
	return nil
}

// openFleetLog begins nothing: the first write does.
func (m *Manager) openFleetLog() error {
	c := &m.cfg
	r, ok := c.replica.(ReplicaObjects)
	if !ok {
		return fmt.Errorf("%w: WithFleetLog: a %T keeps no plain objects", ErrInvalidOption, c.replica)
	}
	objects, err := r.Objects(c.fleetLog.Path)
	if err != nil {
		return fmt.Errorf("%w: WithFleetLog: %w", ErrInvalidOption, err)
	}
	m.objects = innerObjects{objects}
	var life format.ID
	_, _ = rand.Read(life[:]) // never fails (crypto/rand)
	m.journal = journal.New(journal.Config{Store: m.objects, Life: life, Node: m.dir, Interval: c.syncInterval, Retention: c.fleetLog.LogRetention, Now: c.now, Logger: c.logger,
		Failed: func(err error) { m.fleetLog.Failed(err); m.conductor.Unacknowledged(err) },
		Began:  m.fleetLogBegan, Fenced: m.fleetLogFenced,
		Finished: func(epoch uint64) { m.tellOfLog(fleet.EventFleetLogFinished, epoch, c.fleetLog.Path, nil) }})
	m.fleetLog = client.New(client.Config{Journal: m.journal, Objects: m.objects, Durable: func(tenant string, txid ltx.TXID, err error) {
		m.conductor.Durable(tenant, txid, err)
	}})
	return nil
}

// client returns the client of a database's prefix, with the log in front of it if there is one.
func (m *Manager) client(db registry.Database) (litestream.ReplicaClient, error) {
	inner, err := m.cfg.replica.ReplicaClient(databaseOf(db))
	if err != nil || m.fleetLog == nil {
		return inner, err
	}
	at := m.cfg.prefix(db)
	if at.Err != nil {
		return nil, at.Err
	}
	dir, err := m.logDir(db)
	if err != nil {
		return nil, err
	}
	return m.fleetLog.Client(at.Path, dir, inner), nil
}

// readingClient returns a client that reads what is durable of a database: in its prefix,
// and in the log if there is one.
func (m *Manager) readingClient(ctx context.Context, db registry.Database) (litestream.ReplicaClient, error) {
	inner, err := m.cfg.replica.ReplicaClient(databaseOf(db))
	if err != nil || m.fleetLog == nil {
		return inner, err
	}
	dir, err := m.logDir(db)
	if err != nil {
		return nil, err
	}
	log, err := client.Read(ctx, m.objects)
	if err != nil {
		return nil, fmt.Errorf("read the fleet log: %w", err)
	}
	return log.Client("", dir, inner), nil
}

// logDir is what the fleet log calls a database.
func (m *Manager) logDir(db registry.Database) (string, error) {
	return m.cfg.replica.(ReplicaObjects).Dir(databaseOf(db)) // New has checked that it is one
}

// closeFleetLog gives the prefixes what the log has, and ends it.
func (m *Manager) closeFleetLog(ctx context.Context) error {
	tails := map[string]bool{}
	for _, prefix := range m.fleetLog.Prefixes() {
		tails[prefix] = true
	}
	// What stays in the log is durable there, and the next process unpacks it.
	err := m.conductor.Unpack(ctx, func(db registry.Database) bool {
		dir, err := m.logDir(db)
		return err == nil && tails[dir]
	})
	if left := m.unpackOthers(ctx); left != nil {
		m.cfg.logger.Warn("multidb: the fleet log has what some prefixes lack", "err", errors.Join(err, left))
	}
	if err := m.fleetLog.FinishFormer(ctx); err != nil {
		m.cfg.logger.Warn("multidb: a former fleet log is not finished", "err", err)
	}
	if ctx.Err() != nil { // Close is called again
		return nil
	}
	return m.journal.Close(ctx)
}

// hurry has the log written sooner, if there is one.
func (m *Manager) hurry() {
	if m.journal != nil {
		m.journal.Hurry()
	}
}

// unpackOthers gives the prefixes what the conductor has not: of databases that only another
// process knows, whose log was taken over, or whose file is gone.
func (m *Manager) unpackOthers(ctx context.Context) error {
	return m.fleetLog.UnpackAll(ctx, m.clientAt)
}

// clientAt returns the client of a prefix by its directory.
func (m *Manager) clientAt(dir string) (litestream.ReplicaClient, error) {
	db, err := m.cfg.replica.(ReplicaObjects).DatabaseAt(dir)
	if err != nil {
		return nil, err
	}
	return m.cfg.replica.ReplicaClient(db)
}

func (c *config) unpackInterval() time.Duration {
	if c.fleetLog == nil {
		return 0
	}
	return c.fleetLog.UnpackInterval
}

func (c *config) fleetLogPath() string {
	if c.fleetLog == nil {
		return ""
	}
	return c.fleetLog.Path
}

func (c *config) unpackSize() int64 {
	if c.fleetLog == nil {
		return 0
	}
	return c.fleetLog.UnpackSize
}
