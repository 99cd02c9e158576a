package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// chunk is how many records a transaction writes: some 50 ms, so that a
	// flush of a whole fleet heeds its context and keeps the WAL small.
	chunk = 5000
	// maxBackoff bounds the time between attempts of Run to flush.
	maxBackoff = time.Minute

	upsert = `INSERT INTO databases (id, path, prefix, vars, state, files, dev, ino, last_write, txid, flags, sum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
	path = excluded.path, prefix = excluded.prefix, vars = excluded.vars, state = excluded.state,
	files = excluded.files, dev = excluded.dev, ino = excluded.ino, last_write = excluded.last_write,
	txid = excluded.txid, flags = excluded.flags, sum = excluded.sum`
	deleteOne = `DELETE FROM databases WHERE id = ?`
)

// change is one queued Put or Delete.
type change struct {
	rec     Record // only the ID if deleted
	vars    []byte // rec's Vars and RelPath, packed
	deleted bool
}

// Put queues r, which replaces the record of its ID when it is flushed; a later
// Put or Delete of that ID replaces it in the queue. r is copied. After Close
// it is refused, and OnError gets the error.
func (c *Catalog) Put(r Record) { c.enqueue(change{rec: r.clone(), vars: r.packVars()}) }

// Delete queues the removal of a record; nothing happens if there is none.
// After Close it is refused, and OnError gets the error.
func (c *Catalog) Delete(id string) { c.enqueue(change{rec: Record{ID: id}, deleted: true}) }

func (c *Catalog) enqueue(ch change) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.enqueueLocked(ch)
	}
	c.mu.Unlock()
	if closed {
		c.onError(fmt.Errorf("catalog: record of %q not kept: %w", ch.rec.ID, ErrClosed))
	}
}

func (c *Catalog) enqueueLocked(ch change) {
	c.queue[ch.rec.ID] = ch
	select {
	case c.dirty <- struct{}{}:
	default: // Run has yet to see the last one
	}
}

// Flush writes everything queued before the call, in transactions of at most 5,000
// records. Whatever is not written, because of an error or because ctx ended
// between two transactions, stays queued unless it was put again meanwhile.
func (c *Catalog) Flush(ctx context.Context) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.isClosed() {
		return ErrClosed
	}
	return c.flush(ctx)
}

// flush is Flush for the holder of writer.
func (c *Catalog) flush(ctx context.Context) (err error) {
	c.mu.Lock()
	batch := c.queue
	c.queue = make(map[string]change)
	c.mu.Unlock()
	// In the order of the table, which fills its pages one after another.
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(batch)), chunk) {
		if err = c.write(ctx, ids, batch); err != nil {
			err = fmt.Errorf("catalog: %s: %w", c.path, err)
			break
		}
		for _, id := range ids {
			delete(batch, id)
		}
	}
	if err == nil {
		err = c.flushNotes(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, ch := range batch {
		if _, newer := c.queue[id]; !newer {
			c.queue[id] = ch
		}
	}
	return err
}

// write commits the changes of ids. It checks ctx itself, up to the commit: with a
// context that can end, the driver would start a goroutine for each statement.
func (c *Catalog) write(ctx context.Context, ids []string, batch map[string]change) (err error) {
	run := context.WithoutCancel(ctx)
	conn, err := c.db.Conn(run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return inTransaction(run, conn, "catalog.commit", func() error { return c.writeRows(ctx, conn, ids, batch) })
}

// rollBack ends a transaction that failed.
func rollBack(run context.Context, conn *sql.Conn) error {
	// SQLite rolls some failures back itself (disk full, I/O errors), and then
	// refuses to. A connection whose state is not known is not used again.
	_, rollback := conn.ExecContext(run, "ROLLBACK")
	if rollback != nil {
		drop := conn.Raw(func(any) error { return driver.ErrBadConn })
		if !errors.Is(drop, driver.ErrBadConn) {
			return errors.Join(rollback, drop)
		}
	}
	return nil
}

// writeRows executes the changes of ids.
func (c *Catalog) writeRows(ctx context.Context, conn *sql.Conn, ids []string, batch map[string]change) (err error) {
	run := context.WithoutCancel(ctx)
	put, err := conn.PrepareContext(run, upsert)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, put.Close()) }()
	del, err := conn.PrepareContext(run, deleteOne)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, del.Close()) }()
	var scratch []byte
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		ch := batch[id]
		r := &ch.rec
		if ch.deleted {
			_, err = del.ExecContext(run, id)
		} else {
			var sum uint32
			sum, scratch = r.sum(ch.vars, scratch)
			_, err = put.ExecContext(run, id, r.Path, r.Prefix, ch.vars, r.State, r.Files,
				int64(r.Dev), int64(r.Ino), r.LastWrite, int64(r.TXID), int64(r.Flags), int64(sum))
		}
		if err != nil {
			return fmt.Errorf("record of %q: %w", id, err)
		}
	}
	return nil
}

// Run flushes within about interval of a Put or Delete, until ctx ends or the
// catalog is closed. Without anything queued it only waits. A failed flush is
// reported to OnError and tried again, after twice the time at each failure up
// to a minute. It does not flush when ctx ends: Close does. interval must be
// above zero. The owner runs it in a goroutine and joins it.
func (c *Catalog) Run(ctx context.Context, interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	timer.Stop()
	for wait := interval; ; {
		if wait == interval {
			select {
			case <-ctx.Done():
				return
			case <-c.gone:
				return
			case <-c.dirty:
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-c.gone:
			return
		case <-timer.C:
		}
		err := c.Flush(ctx)
		switch {
		case err == nil:
			wait = interval
		case ctx.Err() != nil || errors.Is(err, ErrClosed):
			return
		default:
			c.onError(err)
			wait = min(wait*2, max(maxBackoff, interval))
		}
	}
}
