package client

import (
	"context"
	"io"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/store"
)

// slow is a store whose requests take a while, and are counted.
type slow struct {
	store.Objects
	delay time.Duration

	mu               sync.Mutex
	lists, opens     int
	underway, atOnce int
}

func (s *slow) request(ctx context.Context, n *int) {
	s.mu.Lock()
	*n++
	s.underway++
	s.atOnce = max(s.atOnce, s.underway)
	s.mu.Unlock()
	_ = ctxio.Sleep(ctx, s.delay)
	s.mu.Lock()
	s.underway--
	s.mu.Unlock()
}

func (s *slow) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	s.request(ctx, &s.opens)
	return s.Objects.Open(ctx, name, offset, size)
}

func (s *slow) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	s.request(ctx, &s.lists)
	return s.Objects.List(ctx, prefix, after)
}

// TestARestoreOfThreeHundredObjectsIsAFewRoundTripsLong: their ends, then their files, many
// at once.
func TestARestoreOfThreeHundredObjectsIsAFewRoundTripsLong(t *testing.T) {
	w := newWorld(t)
	w.close()
	w.interval = time.Millisecond
	w.begin(2)
	te := w.tenant("litestream/a")
	for range 300 {
		te.commit()
	}
	w.await(te.prefix, te.db.State.TXID)
	if s := w.log.Stats(); s.Objects < 300 {
		t.Fatalf("%+v", s)
	}
	for name, read := range map[string]func(store.Objects) (*Log, error){
		"all tenants": func(o store.Objects) (*Log, error) { return Read(t.Context(), o) },
		"one tenant":  func(o store.Objects) (*Log, error) { return ReadTenant(t.Context(), o, te.prefix, false) },
		"its history": func(o store.Objects) (*Log, error) { return ReadTenant(t.Context(), o, te.prefix, true) },
	} {
		s := &slow{Objects: w.objects, delay: 2 * time.Millisecond}
		began := time.Now()
		log, err := read(s)
		if err != nil {
			t.Fatal(err)
		}
		if n := w.restored(log.Client("", te.prefix, w.store.Client(te.prefix)), 0); n != te.rows {
			t.Errorf("%s: %d rows of %d", name, n, te.rows)
		}
		t.Logf("%s: %v with 2 ms a request: %d LISTs, %d GETs, at most %d at once", name, time.Since(began), s.lists, s.opens, s.atOnce)
		if s.lists > 5 || s.opens > 3*300 || s.atOnce < 4 { // a loaded machine has fewer at once
			t.Errorf("%s: %d LISTs, %d GETs, at most %d at once", name, s.lists, s.opens, s.atOnce)
		}
	}
}
