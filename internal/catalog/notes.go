package catalog

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/failpoint"
)

const notesSchema = `
CREATE TABLE notes (
	kind  TEXT NOT NULL,
	id    TEXT NOT NULL,
	value BLOB NOT NULL,
	sum   INTEGER NOT NULL,
	PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;`

// Note is one thing that is known beside a record, of a kind of its own: that a database has
// no local file on purpose, that it is being removed, when its backup was last proved. It
// stays until it is deleted, whatever becomes of the record.
type Note struct {
	Kind, ID string // together unique, not empty
	Value    []byte // means something to the kind's owner only; nil deletes the note
}

type noteKey struct{ kind, id string }

// noteBatch is what one durable commit writes, for all who wait for it.
type noteBatch struct {
	notes map[noteKey][]byte
	done  chan struct{} // closed when err is set
	err   error
}

// PutNote queues a note, which is written with the records, about a second later. After
// Close it is refused, and OnError gets the error.
func (c *Catalog) PutNote(n Note) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		k, to := noteKey{n.Kind, n.ID}, c.notes
		if c.batch != nil {
			if _, older := c.batch.notes[k]; older {
				to = c.batch.notes // else the batch would write the older one after this one
			}
		}
		to[k] = slices.Clone(n.Value)
		select {
		case c.dirty <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	if closed {
		c.onError(fmt.Errorf("catalog: note %q of %q not kept: %w", n.Kind, n.ID, ErrClosed))
	}
}

// SetNotes writes notes, all or none of them, and everything that was queued before; when
// it returns nil they survive a power failure. Calls at the same time share one commit.
// ctx bounds the waiting: if it ends first, the notes may be written all the same.
func (c *Catalog) SetNotes(ctx context.Context, notes ...Note) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	b, lead := c.batch, c.batch == nil
	if lead {
		b = &noteBatch{notes: map[noteKey][]byte{}, done: make(chan struct{})}
		c.batch = b
	}
	for _, n := range notes {
		k := noteKey{n.Kind, n.ID}
		b.notes[k] = slices.Clone(n.Value)
		delete(c.notes, k)
	}
	c.mu.Unlock()
	if lead {
		c.commitBatch(context.WithoutCancel(ctx), b)
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commitBatch writes a batch, to which callers add until it has the right to write.
func (c *Catalog) commitBatch(ctx context.Context, b *noteBatch) {
	defer close(b.done)
	if b.err = c.acquire(ctx); b.err != nil {
		return
	}
	defer c.release()
	c.mu.Lock()
	c.batch = nil
	closed := c.closed
	c.mu.Unlock()
	if closed {
		b.err = ErrClosed
		return
	}
	// The WAL is written in order: the synced commit of the notes keeps the records too.
	if b.err = c.flush(ctx); b.err == nil {
		b.err = c.writeNotes(ctx, b.notes, true)
	}
}

// flushNotes writes the queued notes, for the holder of writer.
func (c *Catalog) flushNotes(ctx context.Context) error {
	c.mu.Lock()
	notes := c.notes
	c.notes = map[noteKey][]byte{}
	c.mu.Unlock()
	if len(notes) == 0 {
		return nil
	}
	err := c.writeNotes(ctx, notes, false)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range notes {
		_, newer := c.notes[k]
		if c.batch != nil && !newer {
			_, newer = c.batch.notes[k]
		}
		if !newer {
			c.notes[k] = v
		}
	}
	return err
}

// writeNotes commits notes; synced: they are on disk when it returns.
func (c *Catalog) writeNotes(ctx context.Context, notes map[noteKey][]byte, synced bool) (err error) {
	run := context.WithoutCancel(ctx)
	conn, err := c.db.Conn(run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if synced {
		if _, err := conn.ExecContext(run, "PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		defer func() {
			_, back := conn.ExecContext(run, "PRAGMA synchronous = NORMAL")
			err = errors.Join(err, back)
		}()
	}
	return inTransaction(run, conn, "catalog.notes", func() error {
		put, err := conn.PrepareContext(run, `INSERT OR REPLACE INTO notes (kind, id, value, sum) VALUES (?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer func() { _ = put.Close() }() // the commit has its errors
		del, err := conn.PrepareContext(run, `DELETE FROM notes WHERE kind = ? AND id = ?`)
		if err != nil {
			return err
		}
		defer func() { _ = del.Close() }()
		for _, k := range slices.SortedFunc(maps.Keys(notes), compareKeys) {
			if v := notes[k]; v == nil {
				_, err = del.ExecContext(run, k.kind, k.id)
			} else {
				_, err = put.ExecContext(run, k.kind, k.id, v, int64(sumNote(k, v)))
			}
			if err != nil {
				return fmt.Errorf("catalog: %s: note %q of %q: %w", c.path, k.kind, k.id, err)
			}
		}
		return nil
	})
}

func compareKeys(a, b noteKey) int {
	if n := strings.Compare(a.kind, b.kind); n != 0 {
		return n
	}
	return strings.Compare(a.id, b.id)
}

// sumNote guards a note as sum does a record.
func sumNote(k noteKey, value []byte) uint32 {
	b := binary.AppendUvarint(nil, uint64(len(k.kind)))
	b = append(b, k.kind...)
	b = binary.AppendUvarint(b, uint64(len(k.id)))
	b = append(b, k.id...)
	return crc32.Checksum(append(b, value...), castagnoli)
}

// Notes returns the notes of a kind that have been written, ordered by ID, under the same
// conditions as Load. One that does not match its checksum is left out and reported to
// OnError.
func (c *Catalog) Notes(ctx context.Context, kind string) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		ctx, cancel, err := c.beginLoad(ctx)
		if err != nil {
			yield(Note{}, err)
			return
		}
		defer c.endLoad()
		defer cancel()
		goOn, err := c.loadNotes(ctx, kind, yield)
		if err != nil && goOn {
			if c.stop.Err() != nil {
				err = ErrClosed
			}
			yield(Note{}, fmt.Errorf("catalog: %s: %w", c.path, err))
		}
	}
}

// loadNotes yields the notes of a kind; goOn is false if the loop was left.
func (c *Catalog) loadNotes(ctx context.Context, kind string, yield func(Note, error) bool) (goOn bool, err error) {
	rows, err := c.db.QueryContext(ctx, `SELECT id, value, sum FROM notes WHERE kind = ? ORDER BY id`, kind)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		n := Note{Kind: kind}
		var value sql.RawBytes
		var want int64
		if err := rows.Scan(&n.ID, &value, &want); err != nil {
			return true, err
		}
		if int64(sumNote(noteKey{kind, n.ID}, value)) != want {
			c.onError(fmt.Errorf("catalog: %s: the note %q of %q is damaged and was left out", c.path, kind, n.ID))
			continue
		}
		n.Value = append([]byte{}, value...)
		if !yield(n, nil) {
			return false, nil
		}
	}
	return true, rows.Err()
}

// inTransaction commits what fn does on a connection. Not a sql.Tx: after a failed commit it
// does not roll back, and the next user of the connection would find itself in a
// transaction.
func inTransaction(run context.Context, conn *sql.Conn, place string, fn func() error) error {
	if _, err := conn.ExecContext(run, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		failpoint.Hit(place + ".before")
		_, err = conn.ExecContext(run, "COMMIT")
		failpoint.Hit(place + ".after")
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, rollBack(run, conn))
}

// Erase deletes the record and every note of a database, overwrites what they were, and
// empties the WAL; when it returns nil nothing of it is in the files. ctx bounds the waiting.
func (c *Catalog) Erase(ctx context.Context, id string) (err error) {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	c.mu.Lock()
	closed := c.closed
	delete(c.queue, id)
	for k := range c.notes {
		if k.id == id {
			delete(c.notes, k)
		}
	}
	c.mu.Unlock()
	if closed {
		return ErrClosed
	}
	run := context.WithoutCancel(ctx)
	conn, err := c.db.Conn(run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(run, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	defer func() {
		_, back := conn.ExecContext(run, "PRAGMA synchronous = NORMAL")
		err = errors.Join(err, back)
	}()
	if err := inTransaction(run, conn, "catalog.erase", func() error {
		_, err := conn.ExecContext(run, `DELETE FROM databases WHERE id = ?1; DELETE FROM notes WHERE id = ?1`, id)
		return err
	}); err != nil {
		return fmt.Errorf("catalog: %s: erase %q: %w", c.path, id, err)
	}
	// A reader that keeps the WAL from being emptied leaves that to the next checkpoint.
	_, err = conn.ExecContext(run, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
