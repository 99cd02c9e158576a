package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// meddler is a context that ends at its n-th look, after calling act.
type meddler struct {
	context.Context
	n   int
	act func()
}

func (m *meddler) Err() error {
	if m.n--; m.n > 0 {
		return nil
	}
	if m.n == 0 {
		m.act()
	}
	return context.Canceled
}

func TestAFailedFlushKeepsTheQueueAndNewerChangesWin(t *testing.T) {
	c := open(t, t.TempDir())
	c.Put(Record{ID: "a", TXID: 1})
	c.Put(Record{ID: "b", TXID: 1})
	c.Put(Record{ID: "c", TXID: 1})
	ctx := &meddler{Context: t.Context(), n: 3, act: func() { // two of three are written
		c.Put(Record{ID: "a", TXID: 2})
		c.Delete("b")
	}}
	if err := c.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Flush: %v", err)
	}
	expect(t, c)
	if n := pending(c); n != 3 {
		t.Errorf("%d pending, want 3", n)
	}
	flush(t, c)
	expect(t, c, Record{ID: "a", TXID: 2}, Record{ID: "c", TXID: 1})
}

func TestALargeFlushIsSplitAndGoesOnWhereItStopped(t *testing.T) {
	c := open(t, t.TempDir())
	const n = 2*chunk + 500
	for i := range n {
		c.Put(Record{ID: fmt.Sprintf("%06d", i)})
	}
	ctx := &meddler{Context: t.Context(), n: chunk + 100, act: func() {}}
	if err := c.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Flush: %v", err)
	}
	if got := len(load(t, c)); got != chunk {
		t.Errorf("%d records written, want one transaction of %d", got, chunk)
	}
	if got := pending(c); got != n-chunk {
		t.Errorf("%d pending, want %d", got, n-chunk)
	}
	flush(t, c)
	if got := len(load(t, c)); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
}

// limited opens connections that let the file grow no further while full.
type limited struct {
	driver.Connector
	full atomic.Bool
}

func (l *limited) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := l.Connector.Connect(ctx)
	if err == nil && l.full.Load() { // one page: that is, as many as there are
		_, err = conn.(driver.ExecerContext).ExecContext(ctx, "PRAGMA max_page_count = 1", nil)
	}
	return conn, err
}

// limitDisk replaces the connections of c by ones whose disk can be full.
func limitDisk(t *testing.T, c *Catalog) *limited {
	t.Helper()
	connector, err := connect(c.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.db.Close(); err != nil {
		t.Fatal(err)
	}
	l := &limited{Connector: connector}
	c.db = sql.OpenDB(l)
	c.db.SetMaxIdleConns(-1) // so that each use looks at the limit
	return l
}

func TestAFullDiskLosesNothing(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	disk := limitDisk(t, c)
	disk.full.Store(true)
	for i := range 1000 {
		c.Put(record(i))
	}
	for range 2 {
		if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), dir) {
			t.Fatalf("Flush: %v", err)
		}
	}
	if err := c.Close(t.Context()); err == nil {
		t.Error("Close succeeded without having written everything")
	}
	disk.full.Store(false)
	mustClose(t, c)
	c = open(t, dir)
	if n := len(load(t, c)); n != 1000 {
		t.Errorf("%d records, want 1000", n)
	}
}

func TestRunFlushesOnceAnIntervalAndTriesAgainWithBackoff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var failures []time.Duration
		start := time.Now()
		c, err := Open(t.Context(), dir, Options{OnError: func(error) {
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, time.Since(start))
		}})
		if err != nil {
			t.Fatal(err)
		}
		disk := limitDisk(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Run(ctx, time.Second) })

		time.Sleep(time.Hour)
		c.Put(record(1))
		time.Sleep(time.Second - 1)
		c.Put(record(2))
		synctest.Wait()
		if n := pending(c); n != 2 {
			t.Errorf("%d pending within the interval, want 2", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := pending(c); n != 0 {
			t.Errorf("%d pending after the interval", n)
		}
		c.Put(record(3))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := pending(c); n != 0 {
			t.Errorf("%d pending after the second interval", n)
		}

		disk.full.Store(true)
		start = time.Now()
		for i := range 1000 {
			c.Put(record(i))
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		disk.full.Store(false)
		mu.Lock()
		want := []time.Duration{1, 3, 7, 15, 31, 63, 123, 183} // the last waits are a minute each
		if len(failures) != len(want) {
			t.Errorf("failed attempts at %v", failures)
		}
		for i := range min(len(want), len(failures)) {
			if failures[i] != want[i]*time.Second {
				t.Errorf("failed attempts at %v, want %v s", failures, want)
				break
			}
		}
		mu.Unlock()
		time.Sleep(3 * time.Second) // 4:03, the next attempt
		synctest.Wait()
		if n := pending(c); n != 0 {
			t.Errorf("%d pending after the failure has gone", n)
		}
		c.Put(record(1001)) // the back-off is forgotten
		time.Sleep(time.Second)
		synctest.Wait()
		if n := pending(c); n != 0 {
			t.Errorf("%d pending after recovery", n)
		}
		cancel()
		wg.Wait()

		wg.Go(func() { c.Run(t.Context(), time.Second) }) // ends with the catalog
		synctest.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}

func TestRunEndsWithItsContextAndLeavesTheRestToClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Run(ctx, time.Second) })
		c.Put(record(1))
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := pending(c); n != 1 {
			t.Errorf("%d pending, want 1", n)
		}
		mustClose(t, c)
	})
	expect(t, open(t, dir), record(1))
}
