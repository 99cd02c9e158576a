package multidb

import (
	"context"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// load makes entries of the catalog's records.
func (m *Manager) load(ctx context.Context) error {
	for rec, err := range m.catalog.Load(ctx) {
		if err != nil {
			return err
		}
		db := Database{ID: ID(rec.ID), Path: rec.Path, RelPath: rec.RelPath}
		for _, v := range rec.Vars {
			db.Vars = append(db.Vars, Var(v))
		}
		prefix, prefixErr := m.prefixOf(db)
		var inv levels.Inventory
		var retainAt time.Time
		if len(rec.Files) > 0 && prefix == rec.Prefix && inv.UnmarshalBinary(rec.Files) == nil {
			retainAt = inv.NextRetention(m.cfg.policy())
		}
		m.mu.Lock()
		e := m.addLocked(db, fsid.ID{Dev: rec.Dev, Ino: rec.Ino}, prefix, prefixErr, registry.FromCatalog)
		e.retainAt = unixMilli(retainAt)
		m.neverShippedLocked(e, time.Unix(0, rec.LastWrite))
		m.recallVolumeLocked(e, uint64(rec.Flags))
		if prefix == rec.Prefix {
			var known replicate.Record
			pos := &known.Position
			if *pos, err = m.logs.Recall(rec.ID, rec.State); err == nil {
				e.health.txid = pos.TXID
				// With nothing shipped it had nothing to ship, where it is sure that
				// there was a replica then.
				looked := pos.TXID != 0 || rec.LastWrite != 0 && (prefix != "" || m.cfg.replica == nil)
				if looked {
					e.health.dirtySince = 0
				}
				if m.catalog.ClosedCleanly() {
					known.Inventory = rec.Files
				}
				if rec.LastWrite != 0 && looked {
					known.ModTime = time.Unix(0, rec.LastWrite)
					// One that was not sealed was hot, and its WAL may still be
					// there: the scan takes it for news.
					if pos.Offset == 0 || !pos.Print.IsZero() {
						m.fleet.Known(e.item, known.ModTime)
					}
				}
				st := replicate.FromRecord(known)
				e.packed = st.Pack()
			}
		}
		m.unlock()
	}
	return nil
}

// persist queues what the catalog should know of a database. The caller owns
// e.state.
func (m *Manager) persist(e *entry) {
	known := e.state.Record()
	state, err := m.logs.Position(e.ID, known.Position)
	if err != nil {
		return // unreachable: encoding a fixed-size struct
	}
	db := e.database()
	rec := catalog.Record{
		ID: e.ID, Path: e.Path, RelPath: db.RelPath,
		TXID: uint64(known.Position.TXID), State: state, Files: known.Inventory,
		Prefix: e.Prefix().String(),
	}
	for _, v := range db.Vars {
		rec.Vars = append(rec.Vars, catalog.Var(v))
	}
	if !known.ModTime.IsZero() {
		rec.LastWrite = known.ModTime.UnixNano()
	}
	m.mu.Lock()
	gone := e.Removed
	rec.Dev, rec.Ino, rec.Flags = e.File.Dev, e.File.Ino, m.reg.Device(e)
	if !gone {
		m.catalog.Put(rec)
	}
	m.unlock()
}

// persistAll writes the final positions and inventories. Nothing runs any more.
func (m *Manager) persistAll() {
	m.mu.Lock()
	all := slices.Collect(m.reg.All())
	m.unlock()
	for _, e := range all {
		if e.state == nil {
			continue
		}
		if err := m.replicator.Rest(e.ID, e.state); err != nil {
			m.emit(Event{Type: EventState, ID: e.id(), Err: err})
		}
		if !e.state.AtRest() {
			m.persist(e)
		}
	}
}
