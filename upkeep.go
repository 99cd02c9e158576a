package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// replica is what an active database has that a cold one does not.
type replica struct {
	db     ship.DB
	inv    levels.Inventory
	due    bool // compaction or a snapshot is owed from an earlier run
	needed bool // nothing restores the prefix without a new snapshot
}

func (m *Manager) policy() levels.Policy {
	return levels.Policy{
		Grace:            m.cfg.grace,
		L0Retention:      m.cfg.l0Retention,
		Granularity:      m.cfg.l0Retention,
		Retention:        m.cfg.retention,
		SnapshotInterval: m.cfg.snapshotInterval,
	}
}

// activate makes the replica's side of a database ready. Once in the life of
// the process it compares what is known with what the replica holds: a state
// directory may be lost, old, or a copy.
func (m *Manager) activate(ctx context.Context, e *entry) (*replica, error) {
	w := e.work
	if w.rep != nil {
		return w.rep, nil
	}
	client, err := m.cfg.replica.ReplicaClient(e.db.database())
	if err != nil {
		return nil, err
	}
	rep := &replica{db: ship.DB{Path: e.db.Path, Client: client, State: w.state, Placed: w.placed}}
	rep.inv.Remember(m.cache)
	rep.db.OnWrite = rep.inv.Wrote
	if w.state.Commit > fewPages {
		rep.db.Pages = m.loadPages(e.db.ID)
	}
	if w.verified {
		if err := rep.inv.UnmarshalBinary(w.files); err == nil {
			w.rep, w.files = rep, nil
			if rep.inv.Len() == 0 {
				rep.db.Client = m.claiming(e, client)
			}
			return rep, nil
		}
	}
	l, err := m.listing(ctx, e, client)
	if err != nil {
		return nil, err
	}
	if len(l.Files) == 0 {
		rep.db.Client = m.claiming(e, client)
	} else if err := m.claim(ctx, e, client, false, w.state.TXID); err != nil {
		return nil, err
	}
	if err := m.ship.Verify(ctx, &rep.db, l); errors.Is(err, ship.ErrBehind) {
		return nil, fencedBehind(err)
	} else if err != nil {
		return nil, err
	}
	rep.inv.Reset(l.Files)
	rep.inv.Note(m.cfg.now(), m.cfg.grace)
	if len(l.Files) > 0 && rep.inv.Restorable() != nil {
		rep.needed, rep.due = true, true
	}
	w.state, w.files, w.placed = rep.db.State, nil, rep.db.Placed
	w.rep, w.verified, w.takeOver = rep, true, false
	return rep, nil
}

// deactivate keeps of the replica's side only what a cold database needs.
func (m *Manager) deactivate(e *entry) {
	w := e.work
	if w == nil || w.rep == nil {
		return
	}
	w.state, w.placed = w.rep.db.State, w.rep.db.Placed
	w.rep.inv.Forget()
	if err := m.savePages(e.db.ID, w.rep.db.Pages); err != nil {
		m.emit(Event{Type: EventState, ID: e.db.ID, Err: err})
	}
	b, err := w.rep.inv.AppendBinary(nil)
	if err != nil {
		w.verified = false // listed again when it is needed
	}
	w.files, w.rep, w.dirty = b, nil, true
}

// claim writes metadata.json to an empty prefix, and reads it where the prefix
// has a history that is not known here.
func (m *Manager) claim(ctx context.Context, e *entry, client litestream.ReplicaClient, empty bool, known ltx.TXID) error {
	store, ok := client.(MetadataStore)
	if !ok {
		return nil
	}
	if empty {
		md := metadata.Metadata{ID: string(e.db.ID), Path: e.db.Path, CreatedAt: m.cfg.now().UTC(), Vars: map[string]string{}}
		if fi, err := os.Stat(e.db.Path); err == nil {
			md.SetAccess(localfile.AccessOf(fi))
		}
		for _, v := range e.db.database().Vars {
			md.Vars[v.Name] = v.Value
		}
		b, err := md.Encode()
		if err != nil {
			return err
		}
		return store.WriteMetadata(ctx, b)
	}
	if known != 0 {
		return nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // written by litestream itself
	} else if err != nil {
		return err
	}
	md, err := metadata.Decode(b)
	if err != nil {
		return err
	}
	if md.ID != "" && md.ID != string(e.db.ID) {
		return fmt.Errorf("%w: its metadata.json says %q", ErrConflict, md.ID)
	}
	return nil
}

// compact merges small files into larger ones and writes a snapshot if one is
// due. all: whatever is left, before going cold.
func (m *Manager) compact(ctx context.Context, e *entry, all bool) error {
	rep := e.work.rep
	p := m.policy()
	snapshot := rep.needed || rep.inv.SnapshotDue(p, m.cfg.now())
	files := rep.inv.Compactable(p, all)
	if !m.maintains(rep.db.State) || !snapshot && !files {
		rep.due = false
		return nil
	}
	rep.due = true // until done
	if err := m.ship.Confirm(ctx, &rep.db); err != nil {
		return err
	}
	if snapshot {
		if err := m.snapshot(ctx, e); err != nil {
			return err
		}
	}
	if files {
		report, err := levels.Compact(ctx, rep.db.Client, &rep.inv, p, all, m.cfg.logger)
		m.counters.compactions.Add(int64(report.Compactions))
		switch {
		case errors.Is(err, levels.ErrPageSize):
			// Files of before this process had another page size. They are cut
			// off now; what is left is compacted by the next run.
			if rep.inv.Restorable() != nil {
				return m.snapshot(ctx, e)
			}
			return nil
		case errors.Is(err, levels.ErrInventory):
			m.deactivate(e)
			e.work.verified = false
			return fmt.Errorf("compact: %w", err)
		case errors.Is(err, levels.ErrForeign):
			return fmt.Errorf("%w: compact: %w", ErrFenced, err)
		case err != nil:
			return fmt.Errorf("compact: %w", err)
		}
		e.work.dirty = e.work.dirty || report.Compactions > 0
	}
	rep.due = false
	return nil
}

func (m *Manager) snapshot(ctx context.Context, e *entry) error {
	rep := e.work.rep
	res, err := m.ship.Snapshot(ctx, &rep.db)
	e.work.state = rep.db.State
	e.work.dirty = true
	m.count(res)
	if errors.Is(err, ship.ErrUnsettled) {
		return nil // it changes too fast right now; still due
	} else if err != nil {
		rep.inv.Doubt(litestream.SnapshotLevel, 1, rep.db.State.TXID) // it may be there
		return fmt.Errorf("snapshot: %w", err)
	}
	if res.Empty {
		return nil
	}
	rep.needed = false
	m.counters.snapshots.Add(1)
	m.emit(Event{Type: EventSnapshot, ID: e.db.ID, Path: e.db.Path, TXID: rep.db.State.TXID})
	return nil
}

// retain deletes what no restore within the retention needs. What may be there or
// not, after a request that failed, is listed before.
func (m *Manager) retain(ctx context.Context, e *entry) error {
	rep, err := m.activate(ctx, e)
	if err == nil && rep.inv.Strays() > 0 {
		m.distrust(e)
		rep, err = m.activate(ctx, e)
	}
	if err != nil {
		return err
	}
	if !m.maintains(rep.db.State) || !rep.inv.RetentionDue(m.policy(), m.age.trusted(m.cfg.now())) {
		return nil
	}
	if err := m.ship.Confirm(ctx, &rep.db); err != nil {
		return err
	}
	if _, err := levels.Retain(ctx, rep.db.Client, &rep.inv, m.policy(), m.age.trusted(m.cfg.now())); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	e.work.dirty = true
	e.work.retained = m.cfg.now()
	return nil
}

// nextRetention is when there is something to delete. Single transaction files
// become old one by one, and are deleted together.
func (m *Manager) nextRetention(w *work) time.Time {
	if !m.maintains(w.state) {
		return time.Time{}
	}
	w.rep.inv.Note(m.cfg.now(), m.cfg.grace)
	next := w.rep.inv.NextRetention(m.policy())
	if next.IsZero() || w.retained.IsZero() {
		return next
	}
	if gap := w.retained.Add(min(m.cfg.retentionInterval, m.cfg.l0Retention)); next.Before(gap) {
		return gap
	}
	return next
}

// unixMilli is a time in 8 bytes, 0 for none. The Unix epoch, which stands for
// "at once", is not none.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}

// requestRetention makes those due whose replica has something to delete.
func (m *Manager) requestRetention() {
	now := m.cfg.now()
	old := m.age.trusted(now).UnixMilli()
	m.mu.Lock()
	for e := range m.entries.All() {
		if e.retainAt != 0 && old >= e.retainAt {
			m.fleet.Request(e.item, now)
		}
	}
	m.unlock()
	m.workers.Poke()
}
