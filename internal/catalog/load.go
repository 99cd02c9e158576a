package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

const selectAll = `SELECT id, path, prefix, vars, state, files, dev, ino, last_write, txid, flags, sum FROM databases`

// Load returns all records that have been flushed, ordered by ID, as they are
// when the loop begins; queued ones are not among them. The byte slices of a
// record are valid until the next step of the loop.
//
// An error ends the loop: that of ctx, ErrClosed once Close is called, or the
// file's. A record that does not match its checksum does not: it is left out,
// reported to OnError and, unless it is put meanwhile, deleted. A record whose
// variables cannot be read is left out.
func (c *Catalog) Load(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		ctx, cancel, err := c.beginLoad(ctx)
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer c.endLoad()
		defer cancel()
		goOn, err := c.load(ctx, yield)
		if err != nil && goOn {
			if c.stop.Err() != nil {
				err = ErrClosed
			}
			yield(Record{}, fmt.Errorf("catalog: %s: %w", c.path, err))
		}
	}
}

// load yields every record; goOn is false if the loop was left.
func (c *Catalog) load(ctx context.Context, yield func(Record, error) bool) (goOn bool, err error) {
	rows, err := c.db.QueryContext(ctx, selectAll)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	// Outside the loop, so that they are allocated once and not per record.
	var r Record
	var vars, state, files sql.RawBytes
	var dev, ino, txid, flags, want int64
	into := []any{&r.ID, &r.Path, &r.Prefix, &vars, &state, &files, &dev, &ino, &r.LastWrite, &txid, &flags, &want}
	var scratch []byte
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return true, err // database/sql notices only after some more rows
		}
		if err := rows.Scan(into...); err != nil {
			return true, err
		}
		r.State, r.Files = noEmpty(state), noEmpty(files)
		r.Dev, r.Ino, r.TXID, r.Flags = uint64(dev), uint64(ino), uint64(txid), uint32(flags)
		var sum uint32
		if sum, scratch = r.sum(vars, scratch); int64(sum) != want || int64(r.Flags) != flags {
			c.dropDamaged(r.ID)
			continue
		}
		if r.unpackVars(vars) != nil {
			continue // of another version; the next scan finds the database again
		}
		if !yield(r, nil) {
			return false, nil
		}
	}
	return true, rows.Err()
}

// dropDamaged reports and deletes a record whose checksum is wrong.
func (c *Catalog) dropDamaged(id string) {
	c.mu.Lock()
	if _, newer := c.queue[id]; !newer && !c.closed {
		c.enqueueLocked(change{rec: Record{ID: id}, deleted: true})
	}
	c.mu.Unlock()
	c.onError(fmt.Errorf("catalog: %s: the record of %q is damaged and was dropped", c.path, id))
}

// beginLoad admits a Load and ties its context to the catalog's life.
func (c *Catalog) beginLoad(ctx context.Context) (context.Context, context.CancelFunc, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping || c.closed {
		return nil, nil, ErrClosed
	}
	if c.loads == 0 {
		c.loadless = make(chan struct{})
	}
	c.loads++
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(c.stop, cancel)
	return ctx, func() { unhook(); cancel() }, nil
}

func (c *Catalog) endLoad() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loads--
	if c.loads == 0 {
		close(c.loadless)
		c.loadless = nil
	}
}

// stopLoads admits no more Loads, ends the running ones and waits for them.
func (c *Catalog) stopLoads(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	wait := c.loadless
	c.mu.Unlock()
	c.endStop()
	if wait == nil {
		return nil
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func noEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
