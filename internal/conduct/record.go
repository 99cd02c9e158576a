package conduct

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// Load makes the databases of the catalog known. The Fleet has none yet.
func (c *Conductor) Load(ctx context.Context) error {
	var gone []string
	for row, err := range c.rows(ctx) {
		if err != nil {
			return err
		}
		c.recall(row, c.place(row), nil, &gone)
	}
	return nil
}

// LoadShards is Load for the databases of some shards. Those that are known stay as
// they are. keep is asked about each that may have a local file, and may say that this is a cache:
// false forgets the database. ahead says which shards are expected soon: what the catalog has
// of those is kept for a while, as it has to be read to the end each time, and shards come a few at
// once. One caller at a time.
func (c *Conductor) LoadShards(ctx context.Context, shards []int, keep func(*fleet.Recalled) bool, ahead func(shard int) bool) error {
	if !c.ahead.has(shards, c.cfg.Now()) {
		if err := c.readAhead(ctx, shards, ahead); err != nil {
			return err
		}
	}
	var gone []string
	for _, shard := range shards {
		for _, row := range c.ahead.rows[shard] {
			if ctx.Err() != nil {
				return context.Cause(ctx) // those that are known by now stay so until the shard comes again
			}
			c.recall(row, c.place(row), keep, &gone)
		}
		delete(c.ahead.rows, shard)
	}
	for _, id := range gone {
		c.Forget(id)
	}
	return nil
}

// Forget forgets what the catalog has of a database that is not known, and whose file has gone.
func (c *Conductor) Forget(id string) {
	c.cfg.Catalog.Delete(id)
	c.NotCache(id)
}

// ahead is what the catalog has of shards that this process does not serve, so that nobody changes it, by shard.
type ahead struct {
	rows map[int][]row
	read time.Time
}

// keepAhead is for how long. The application may want a database treated differently from what it said
// of the row.
const keepAhead = time.Minute

// has reports whether all of some shards is there.
func (a *ahead) has(shards []int, now time.Time) bool {
	for _, s := range shards {
		if _, ok := a.rows[s]; !ok {
			return false
		}
	}
	return now.Sub(a.read) < keepAhead
}

// readAhead reads what the catalog has of shards, and of those that are expected and not served.
func (c *Conductor) readAhead(ctx context.Context, shards []int, expected func(shard int) bool) error {
	c.ahead = ahead{map[int][]row{}, c.cfg.Now()}
	for s := range fleet.Shards {
		if slices.Contains(shards, s) || expected != nil && expected(s) && !c.fleet.Serves(s) {
			c.ahead.rows[s] = nil
		}
	}
	// Something of a shard may be queued still that was given away just now. If it cannot be written, the catalog tells of
	// that by itself, and a row from before does no harm: the file does not look like that any more.
	_ = c.cfg.Catalog.Flush(ctx)
	for r, err := range c.rows(ctx) {
		if err != nil {
			c.ahead = ahead{}
			return err
		}
		at := c.place(r).Prefix
		if rows, ok := c.ahead.rows[at.Shard]; ok && at.Err == nil {
			r.State, r.Files = bytes.Clone(r.State), bytes.Clone(r.Files)
			c.ahead.rows[at.Shard] = append(rows, r)
		}
	}
	return nil
}

// Elsewhere are the databases that the catalog has of shards that this process does not serve, of which something was
// shipped from here. Their files may be gone.
func (c *Conductor) Elsewhere(ctx context.Context) iter.Seq2[fleet.Recalled, error] {
	return func(yield func(fleet.Recalled, error) bool) {
		if err := c.cfg.Catalog.Flush(ctx); err != nil { // it may be about to forget some
			yield(fleet.Recalled{}, err)
			return
		}
		for row, err := range c.rows(ctx) {
			if err != nil {
				yield(fleet.Recalled{}, err)
				return
			}
			r := c.place(row)
			if r.Prefix.Err != nil || r.Prefix.Path != row.Prefix || c.fleet.Serves(r.Prefix.Shard) {
				continue
			}
			pos, _, err := replicate.DecodePosition(row.State)
			if err != nil || pos.TXID == 0 {
				continue // it is looked at when its shard comes
			}
			r.Known = &replicate.Record{Position: pos}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// row is what the catalog has of a database.
type row struct {
	catalog.Record
	evicted, cache bool
}

// rows are all that the catalog has. Their bytes are valid until the next one.
func (c *Conductor) rows(ctx context.Context) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		evicted, err := c.noted(ctx, evictedNote)
		var caches map[string]bool
		if err == nil {
			caches, err = c.noted(ctx, cacheNote)
		}
		if err != nil {
			yield(row{}, err)
			return
		}
		for rec, err := range c.cfg.Catalog.Load(ctx) {
			if !yield(row{rec, evicted[rec.ID], caches[rec.ID]}, err) || err != nil {
				return
			}
		}
	}
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

// place is where a database of the catalog is.
func (c *Conductor) place(rec row) fleet.Recalled {
	r := fleet.Recalled{
		Database:  registry.Database{ID: rec.ID, Path: rec.Path, RelPath: rec.RelPath},
		File:      fsid.ID{Dev: rec.Dev, Ino: rec.Ino},
		LastWrite: time.Unix(0, rec.LastWrite), Evicted: rec.evicted, Cache: rec.cache,
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
	return r
}

// recall makes a database of the catalog known, or adds it to those that are to be forgotten.
func (c *Conductor) recall(rec row, r fleet.Recalled, keep func(*fleet.Recalled) bool, gone *[]string) {
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
		r.Known, r.Looked = c.known(rec.Record)
	}
	if keep != nil && !r.Evicted && c.fleet.Get(r.ID) == nil && !keep(&r) {
		*gone = append(*gone, r.ID)
		return
	}
	c.fleet.Recall(r)
}

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
