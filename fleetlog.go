package multidb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/cluster"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/owner"
	"github.com/multidb-go/multidb/internal/fleetlog/reading"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// FleetLogConfig says where and how the changes of all tenants are written together. The
// zero value is the default.
type FleetLogConfig struct {
	// Path is the directory of the log at the replica, beside the databases' prefixes and
	// not in one of them. Managers with the same one share a log: the later one takes over,
	// and the earlier one is fenced. Default "fleet".
	Path string
	// UnpackInterval is how often the prefix of a tenant that stays hot gets what the log
	// has of it, up to its newest commit, which follows with the next ones or an interval
	// later. Default 5 minutes.
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
		cfg := cfg.withDefaults() // an Option may be used again
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
	e, err := m.replicated(ctx, id)
	if err == nil {
		_, err = m.conductor.Sync(ctx, e)
	}
	if err == nil {
		err = m.node.lost(string(id))
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
	if m.node != nil { // the nodes of another cluster may be at work on it
		objects, err := m.cfg.replica.(ReplicaObjects).Objects(dir)
		if err != nil {
			return err
		}
		if err := cluster.Another(ctx, innerObjects{objects}, dir, m.cfg.fleetLog.Path); err != nil {
			return err
		}
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

// openFleetLog begins nothing: the first write does. nil: there is none.
func (m *Manager) openFleetLog(life format.ID, ended []format.ID) (*owner.Log, error) {
	c := &m.cfg
	if c.fleetLog == nil {
		return nil, nil
	}
	r := c.replica.(ReplicaObjects) // New has checked that it is one
	objects, err := r.Objects(c.fleetLog.Path)
	if err != nil {
		return nil, invalid("WithFleetLog", "Path is %q: %v", c.fleetLog.Path, err)
	}
	name := m.dir
	var giveUp func(context.Context) error
	if c.cluster != nil {
		name = c.cluster.Node
		giveUp = func(ctx context.Context) error { return m.node.GiveUp(ctx) }
	}
	return owner.New(owner.Config{
		Objects: innerObjects{objects}, Path: c.fleetLog.Path, Node: name,
		Share: c.cluster != nil, Check: func(ctx context.Context) (bool, error) {
			err := cluster.Alone(ctx, innerObjects{objects}, c.fleetLog.Path)
			return errors.Is(err, ErrClusterSettings), err
		}, Life: life, Ended: ended, GiveUp: giveUp,
		SyncInterval: c.syncInterval, UnpackInterval: c.fleetLog.UnpackInterval, Retention: c.fleetLog.LogRetention,
		Prefix: c.prefix, Client: c.prefixClient,
		Dir:      func(db registry.Database) (string, error) { return r.Dir(databaseOf(db)) },
		ClientAt: c.clientAt,
		Emit:     m.fleet.Emit, Now: c.now, Logger: c.logger,
	}), nil
}

// client returns the client of a database's prefix, with the log in front of it if there is one.
func (m *Manager) client(db registry.Database) (litestream.ReplicaClient, error) {
	if m.fleetLog != nil {
		return m.fleetLog.Client(db)
	}
	return m.cfg.prefixClient(db)
}

// clientAt is the client of the prefix in a directory, of a replica that keeps a fleet log.
func (c *config) clientAt(dir string) (litestream.ReplicaClient, error) {
	db, err := c.replica.(ReplicaObjects).DatabaseAt(dir)
	if err != nil {
		return nil, err
	}
	return c.replica.ReplicaClient(db)
}

func (c *config) prefixClient(db registry.Database) (litestream.ReplicaClient, error) {
	return c.replica.ReplicaClient(databaseOf(db))
}

// historyClient reads a prefix, and what the fleet log still has of its history.
func (c *config) historyClient(db registry.Database) (litestream.ReplicaClient, error) {
	client, err := readingClient(c.replica, c.logged().Path, databaseOf(db))
	if r, ok := client.(*reading.Client); ok {
		r.History()
	}
	return client, err
}

// logged is what the fleet log adds to how databases are replicated; zero: there is none.
func (c *config) logged() FleetLogConfig {
	if c.fleetLog == nil {
		return FleetLogConfig{}
	}
	return *c.fleetLog
}
