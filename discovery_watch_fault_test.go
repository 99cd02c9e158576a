package multidb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/watch"
	"github.com/multidb-go/multidb/multidbtest"
)

// deaf is the system's source, of which nothing is heard but an overflow.
type deaf struct {
	watch.Source
	events chan fsnotify.Event
	errs   chan error
	joined sync.WaitGroup
}

func newDeaf(s watch.Source) *deaf {
	d := &deaf{Source: s, events: make(chan fsnotify.Event), errs: make(chan error)}
	d.joined.Go(func() {
		for range s.Events() {
		}
	})
	return d
}

func (d *deaf) Events() <-chan fsnotify.Event { return d.events }
func (d *deaf) Errors() <-chan error          { return d.errs }

func (d *deaf) Close() error {
	err := d.Source.Close()
	d.joined.Wait()
	return err
}

func TestAfterAnOverflowNothingIsMissed(t *testing.T) {
	root := newTree(t, 2, 2)
	var first *deaf
	g := multidb.WatchThrough(multidb.Glob(pattern(root)), func() (watch.Source, error) {
		s, err := watch.Open()
		if err == nil && first == nil {
			first = newDeaf(s)
			return first, nil
		}
		return s, err
	})
	rep := multidbtest.NewReplica()
	f := &fleet{t: t, root: root, events: newEventLog()}
	var err error
	f.m, err = multidb.New(multidb.WithDiscoverer(g), multidb.WithReplica(rep), multidb.WithScanInterval(time.Hour),
		multidb.WithSyncInterval(20*time.Millisecond), multidb.WithHotDuration(50*time.Millisecond),
		multidb.WithObserver(f.events.observe))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	pos := f.sync("project1/db1")
	f.sync("project0/db0")
	f.cold()

	makeDB(t, filepath.Join(root, "new/databases/db.db"), 1)
	writeRow(t, filepath.Join(root, "project1/databases/db1.db"), "x")
	if err := os.Rename(filepath.Join(root, "project0"), filepath.Join(root, "renamed")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.m.Status("new/db"); err == nil {
		t.Fatal("it was seen: nothing is tested")
	}
	first.errs <- fsnotify.ErrEventOverflow

	f.waitEvent(multidb.EventAdded, "new/db")
	f.waitEvent(multidb.EventAdded, "renamed/db0")
	f.waitEvent(multidb.EventRemoved, "project0/db0")
	f.waitTXID("project1/db1", pos.TXID)
	// From here on notifications tell again, also of what was renamed unheard.
	pos = f.sync("renamed/db0")
	f.cold()
	writeRow(t, filepath.Join(root, "renamed/databases/db0.db"), "y")
	f.waitTXID("renamed/db0", pos.TXID)
	makeDB(t, filepath.Join(root, "new/databases/later.db"), 1)
	f.waitEvent(multidb.EventAdded, "new/later")
}

// full is a source without a watch left.
type full struct{ watch.Source }

func (full) Add(string) error              { return syscall.ENOSPC }
func (full) WatchList() []string           { return nil }
func (full) Events() <-chan fsnotify.Event { return nil }
func (full) Errors() <-chan error          { return nil }
func (full) Close() error                  { return nil }

func TestWithoutAWatchLeftChangesAreStillSeen(t *testing.T) {
	root := newTree(t, 2, 2)
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rep := multidbtest.NewReplica()
		events := newEventLog()
		m, err := multidb.New(
			multidb.WithDiscoverer(multidb.WatchThrough(multidb.Glob(pattern(root)), func() (watch.Source, error) { return full{}, nil })),
			multidb.WithReplica(rep), multidb.WithScanInterval(1000*time.Hour), multidb.WithHotDuration(time.Minute),
			multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
			multidb.WithObserver(events.observe),
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Hour) // everything is cold
		polls := 0
		events.mu.Lock()
		for _, ev := range events.all {
			if ev.Type == multidb.EventWatch {
				polls++
			}
		}
		events.mu.Unlock()
		if s := m.Stats(); polls != 1 || s.Hot != 0 {
			t.Errorf("said %d times; %d hot", polls, s.Hot)
		}
		shipped := func(id multidb.ID) multidb.TXID {
			t.Helper()
			st, err := m.Status(id)
			if err != nil {
				t.Fatal(err)
			}
			return st.TXID
		}
		before, requests := shipped("project1/db0"), rep.RequestStats().Total()
		time.Sleep(time.Hour)
		if n := rep.RequestStats().Total() - requests; n != 0 {
			t.Errorf("%d requests while nothing changed", n)
		}
		writeRow(t, filepath.Join(root, "project1/databases/db0.db"), "x")
		makeDB(t, filepath.Join(root, "new/databases/db.db"), 1)
		time.Sleep(time.Minute)
		if after := shipped("project1/db0"); after <= before {
			t.Error("the write was not shipped")
		}
		if shipped("new/db") == 0 {
			t.Error("the new database was not shipped")
		}
		for i := range 20 { // what changes is looked at often
			id := multidb.ID(fmt.Sprintf("new/db%d", i))
			makeDB(t, filepath.Join(root, fmt.Sprintf("new/databases/db%d.db", i)), 1)
			created := time.Now()
			for {
				if _, err := m.Status(id); err == nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
				if lag := time.Since(created); lag > 31*time.Second || lag > 2*time.Second && i > 0 {
					t.Fatalf("%s not seen for %v", id, lag)
				}
			}
			time.Sleep(time.Second)
		}
	})
}
