package multidb

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
)

// load makes entries of the catalog's records.
func (m *Manager) load(ctx context.Context) error {
	for rec, err := range m.catalog.Load(ctx) {
		if err != nil {
			return err
		}
		db := Database{ID: ID(rec.ID), Path: rec.Path}
		if db.Vars, db.RelPath, err = decodeVars(rec.Vars); err != nil {
			continue // the scan finds it again
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
			if log, err := unmarshalState(pos, rec.State); err == nil {
				if log != 0 { // its file may be exchanged while nobody looks
					m.logs.Recall(rec.ID, *pos, log)
				}
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

// unmarshalState decodes the state of a catalog's record, and the inode of the log that
// stood beside the database, if it follows.
func unmarshalState(st *ship.State, b []byte) (log uint64, err error) {
	if err = st.UnmarshalBinary(b); err == nil || len(b) < 8 {
		return 0, err
	}
	split := len(b) - 8
	if st.UnmarshalBinary(b[:split]) != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[split:]), nil
}

// persist queues what the catalog should know of a database. The caller owns
// e.state.
func (m *Manager) persist(e *entry) {
	known := e.state.Record()
	state, err := known.Position.AppendBinary(nil)
	if err != nil {
		return // unreachable: encoding a fixed-size struct
	}
	if log := m.logs.Of(e.ID, known.Position); log != 0 {
		state = binary.LittleEndian.AppendUint64(state, log)
	}
	rec := catalog.Record{
		ID: e.ID, Path: e.Path, Vars: encodeVars(e.database()),
		TXID: uint64(known.Position.TXID), State: state, Files: known.Inventory,
		Prefix: e.Prefix().String(),
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

var errVars = errors.New("multidb: unknown format of a database's variables")

// encodeVars packs the values of a database for the catalog.
func encodeVars(db Database) []byte {
	b := binary.AppendUvarint(nil, uint64(len(db.Vars)))
	put := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, v := range db.Vars {
		put(v.Name)
		put(v.Value)
	}
	put(db.RelPath)
	return b
}

func decodeVars(b []byte) (vars []Var, rel string, err error) {
	num := func() uint64 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)) {
			err = errVars
			return 0
		}
		b = b[k:]
		return n
	}
	str := func() string {
		n := num()
		if err != nil || n > uint64(len(b)) {
			err = errVars
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	for n := num(); n > 0 && err == nil; n-- {
		vars = append(vars, Var{Name: str(), Value: str()})
	}
	rel = str()
	if err == nil && len(b) != 0 {
		err = errVars
	}
	return vars, rel, err
}
