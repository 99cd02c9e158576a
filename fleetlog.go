package multidb

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/client"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// FleetLogConfig says where and how the changes of all tenants are written together.
type FleetLogConfig struct {
	// Path is the directory of the log at the replica, such as "fleet". Required.
	Path string
	// UnpackInterval is how often the prefix of a tenant that stays hot gets what the log
	// has of it. Default 5 minutes.
	UnpackInterval time.Duration
}

// unpackPatience is after how many intervals a prefix that still lacks something makes its
// database not well.
const unpackPatience = 3

// unpackSize is the size of a tenant's tail from which it is unpacked sooner.
const unpackSize = 8 << 20

// WithFleetLog writes the changes of all tenants as one object each sync interval, instead
// of one for each tenant. The replica must be a ReplicaObjects.
func WithFleetLog(cfg FleetLogConfig) Option {
	return func(c *config) error {
		if cfg.Path == "" {
			return invalid("WithFleetLog", "Path is empty; write a directory such as \"fleet\"")
		}
		cfg.UnpackInterval = cmp.Or(cfg.UnpackInterval, 5*time.Minute)
		c.fleetLog = &cfg
		return nil
	}
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
	m.journal = journal.New(journal.Config{Store: m.objects, Life: life, Node: m.dir, Interval: c.syncInterval, Now: c.now, Logger: c.logger,
		Failed: func(err error) { m.conductor.Unacknowledged(err) },
		Began:  m.fleetLogBegan, Finished: func(epoch uint64) { m.tellOfLog(fleet.EventFleetLogFinished, epoch, c.fleetLog.Path, nil) },
		Fenced: func(err error) {
			m.tellOfLog(fleet.EventFleetLogFenced, m.journal.Stats().Epoch, c.fleetLog.Path, fmt.Errorf("%w: %w", ErrFenced, err))
		}})
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
	return m.fleetLog.Client(at.Path, logKey(at.Path), inner), nil
}

// readingClient returns a client that reads what is durable of a database: in its prefix,
// and in the log if there is one.
func (m *Manager) readingClient(ctx context.Context, db registry.Database) (litestream.ReplicaClient, error) {
	inner, err := m.cfg.replica.ReplicaClient(databaseOf(db))
	if err != nil || m.fleetLog == nil {
		return inner, err
	}
	at := m.cfg.prefix(db)
	if at.Err != nil {
		return nil, at.Err
	}
	log, err := client.Read(ctx, m.objects)
	if err != nil {
		return nil, fmt.Errorf("read the fleet log: %w", err)
	}
	return log.Client("", logKey(at.Path), inner), nil
}

// logKey is what the log calls a prefix: its path without the scheme.
func logKey(prefix string) string {
	if _, at, ok := strings.Cut(prefix, "://"); ok {
		prefix = at
	}
	return strings.TrimPrefix(path.Clean("/"+prefix), "/")
}

// closeFleetLog gives the prefixes what the log has, and ends it.
func (m *Manager) closeFleetLog(ctx context.Context) error {
	tails := map[string]bool{}
	for _, prefix := range m.fleetLog.Prefixes() {
		tails[prefix] = true
	}
	// What stays in the log is durable there, and the next process unpacks it.
	if err := m.conductor.Unpack(ctx, func(prefix string) bool { return tails[logKey(prefix)] }); err != nil {
		m.cfg.logger.Warn("multidb: the fleet log has what some prefixes lack", "err", err)
	} else if err := m.fleetLog.FinishFormer(ctx); err != nil {
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

func (c *config) unpackInterval() time.Duration {
	if c.fleetLog == nil {
		return 0
	}
	return c.fleetLog.UnpackInterval
}

// innerObjects is an ObjectStore as the inner packages know it.
type innerObjects struct{ ObjectStore }

func (o innerObjects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		for info, err := range o.ObjectStore.List(ctx, prefix, after) {
			if !yield(store.ObjectInfo(info), err) {
				return
			}
		}
	}
}
