package client

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/multidb-go/multidb/internal/store"
)

// opened counts how often an object was opened.
type opened struct {
	store.Objects
	n atomic.Int64
}

func (o *opened) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	o.n.Add(1)
	return o.Objects.Open(ctx, name, offset, size)
}

// TestATailIsUnpackedFromMemoryThoughItsFilesWouldNotFit, as they have the same pages.
func TestATailIsUnpackedFromMemoryThoughItsFilesWouldNotFit(t *testing.T) {
	w := newWorldOf(t, 12<<10)
	o := &opened{Objects: w.log.cfg.Objects}
	w.log.cfg.Objects = o
	te := w.tenant("litestream/a")
	prefix := w.store.Client(te.prefix)
	te.commit()
	for round := range 3 {
		first := te.db.State.TXID
		for range 150 {
			te.exec("UPDATE t SET v = randomblob(300)")
			if _, err := te.shipper.Step(t.Context(), &te.db); err != nil {
				t.Fatal(err)
			}
			w.journal.Hurry()
			w.await(te.prefix, te.db.State.TXID)
		}
		w.log.mu.Lock()
		size, memory := w.log.tailBytes, w.log.memory
		w.log.mu.Unlock()
		if size < 5*w.memory || memory > w.memory {
			t.Errorf("round %d: a tail of %d bytes takes %d of %d", round, size, memory, w.memory)
		}
		o.n.Store(0)
		infos, err := w.log.Unpack(t.Context(), te.prefix, prefix)
		if err != nil || infos[len(infos)-1].MaxTXID != te.db.State.TXID {
			t.Fatalf("round %d: unpacked %s, %v", round, ranges(infos), err)
		}
		if n := o.n.Load(); n > 2 {
			t.Errorf("round %d: %d files were read from the log, from %d to %d", round, n, first, te.db.State.TXID)
		}
		w.log.mu.Lock()
		memory = w.log.memory
		w.log.mu.Unlock()
		if n := w.restored(prefix, 0); n != te.rows || memory != 0 {
			t.Errorf("round %d: the prefix has %d rows of %d; %d bytes of memory are left", round, n, te.rows, memory)
		}
	}
}
