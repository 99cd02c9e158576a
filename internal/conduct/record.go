package conduct

import (
	"context"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// Load makes the databases of the catalog known. The Fleet has none yet.
func (c *Conductor) Load(ctx context.Context) error { return c.LoadShards(ctx, nil, nil) }

// LoadShards is Load for the databases of some shards; nil: of all. Those that are known stay as
// they are. keep is asked about each that may have a local file, and may say that this is a cache:
// false forgets the database. Nil: all are kept.
func (c *Conductor) LoadShards(ctx context.Context, in func(shard int) bool, keep func(*fleet.Recalled) bool) error {
	var gone []string
	evicted, err := c.noted(ctx, evictedNote)
	if err != nil {
		return err
	}
	caches, err := c.noted(ctx, cacheNote)
	if err != nil {
		return err
	}
	for rec, err := range c.cfg.Catalog.Load(ctx) {
		if err != nil {
			return err
		}
		r := fleet.Recalled{
			Database:  registry.Database{ID: rec.ID, Path: rec.Path, RelPath: rec.RelPath},
			File:      fsid.ID{Dev: rec.Dev, Ino: rec.Ino},
			LastWrite: time.Unix(0, rec.LastWrite), Evicted: evicted[rec.ID], Cache: caches[rec.ID],
		}
		for _, v := range rec.Vars {
			r.Vars = append(r.Vars, registry.Var(v))
		}
		if r.Evicted {
			// No listing will tell that the root has moved.
			if db, _, ok := c.cfg.Locate(rec.ID); ok && db.Path != rec.Path {
				r.Database = db
			}
		}
		r.Prefix = c.cfg.Prefix(r.Database)
		if in != nil && (r.Prefix.Err != nil || !in(r.Prefix.Shard)) {
			continue
		}
		r.Policy = c.AskPolicy(r.Database)
		if !c.cfg.Volumes.Emptied() {
			r.Device = uint64(rec.Flags)
		}
		if r.Prefix.Path == rec.Prefix {
			var inv levels.Inventory
			if len(rec.Files) > 0 && inv.UnmarshalBinary(rec.Files) == nil {
				r.RetainAt, r.Unpacked = inv.NextRetention(c.levels(r.Policy)), inv.MaxTXID()
				r.Sized, r.Size = true, replicate.SizeOf(&inv)
			}
			r.Known, r.Looked = c.known(rec)
		}
		if keep != nil && !r.Evicted && c.fleet.Get(r.ID) == nil && !keep(&r) {
			gone = append(gone, r.ID)
			continue
		}
		c.fleet.Recall(r)
	}
	for _, id := range gone { // not while the rows are read
		c.cfg.Catalog.Delete(id)
		if caches[id] {
			c.NotCache(id)
		}
	}
	return nil
}

// noted are the IDs that have a note of a kind.
func (c *Conductor) noted(ctx context.Context, kind string) (ids map[string]bool, err error) {
	ids = map[string]bool{}
	for n, err := range c.cfg.Catalog.Notes(ctx, kind) {
		if err != nil {
			return nil, err
		}
		ids[n.ID] = true
	}
	return ids, nil
}

// cacheNote is the kind of note of a database whose local file is a cache: others may have served it
// since, and the file may have commits that nobody promised. It outlives this process, whose next
// life would take the file for its own.
const cacheNote = "cache"

// NoteCaches notes of databases that their local files are caches. It is on disk when it returns.
func (c *Conductor) NoteCaches(ctx context.Context, ids []string) error {
	notes := make([]catalog.Note, len(ids))
	for i, id := range ids {
		notes[i] = catalog.Note{Kind: cacheNote, ID: id, Value: []byte{}}
	}
	return c.cfg.Catalog.SetNotes(ctx, notes...)
}

// NotCache ends what NoteCaches has noted of a database.
func (c *Conductor) NotCache(id string) { c.cfg.Catalog.PutNote(catalog.Note{Kind: cacheNote, ID: id}) }

// known is what a row of the catalog says of the State of a database that has the prefix
// that it had. looked: everything of it was at the replica.
func (c *Conductor) known(rec catalog.Record) (known *replicate.Record, looked bool) {
	pos, err := c.cfg.Logs.Recall(rec.ID, rec.State)
	if err != nil {
		return nil, false
	}
	known = &replicate.Record{Position: pos}
	// With nothing shipped it had nothing to ship, where it is sure that there was a
	// replica then.
	looked = pos.TXID != 0 || rec.LastWrite != 0 && (rec.Prefix != "" || !c.cfg.Replicated)
	if c.cfg.Catalog.ClosedCleanly() {
		known.Inventory = rec.Files
	}
	if rec.LastWrite != 0 && looked {
		known.ModTime = time.Unix(0, rec.LastWrite)
	}
	return known, looked
}

// record queues what the catalog is to know of a database. The caller owns st.
func (c *Conductor) record(e *fleet.Entry, st *replicate.State) {
	known := st.Record()
	state, err := c.cfg.Logs.Position(e.ID(), known.Position)
	if err != nil {
		return // unreachable: encoding a fixed-size struct
	}
	db := e.Database()
	rec := catalog.Record{
		ID: db.ID, Path: db.Path, RelPath: db.RelPath,
		TXID: uint64(known.Position.TXID), State: state, Files: known.Inventory,
		Prefix: e.Identity().Prefix().String(),
	}
	for _, v := range db.Vars {
		rec.Vars = append(rec.Vars, catalog.Var(v))
	}
	if !known.ModTime.IsZero() {
		rec.LastWrite = known.ModTime.UnixNano()
	}
	c.fleet.Record(e, func(file fsid.ID, device uint32) {
		rec.Dev, rec.Ino, rec.Flags = file.Dev, file.Ino, device
		c.cfg.Catalog.Put(rec)
	})
}

// RecordAll records the final positions and inventories. Nothing runs any more.
func (c *Conductor) RecordAll() {
	for _, e := range c.fleet.All() {
		st := c.fleet.StateAtEnd(e)
		if st == nil {
			continue
		}
		if err := c.cfg.Replicator.Rest(e.ID(), st); err != nil {
			c.fleet.Emit(fleet.Event{Type: fleet.EventState, ID: e.ID(), Err: err})
		}
		if !st.AtRest() {
			c.record(e, st)
		}
	}
}

// RecordNew records a database of which nothing is known but that it is at the replica.
func (c *Conductor) RecordNew(e *fleet.Entry) { c.record(e, new(replicate.State)) }
