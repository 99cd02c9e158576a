package multidb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/multidb-go/multidb/internal/watch"
)

// told is a source of notifications that a test makes.
type told struct {
	watch.Source
	events chan fsnotify.Event
}

func (told) Add(string) error                { return nil }
func (told) WatchList() []string             { return nil }
func (s told) Events() <-chan fsnotify.Event { return s.events }
func (told) Errors() <-chan error            { return nil }
func (told) Close() error                    { return nil }

// TestAWriteThatIsNeedlessIsNotToldAndANewNameIs. Red without needless, or without
// named, in Tell (internal/discover).
func TestAWriteThatIsNeedlessIsNotToldAndANewNameIs(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a.db", "b.db"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := told{events: make(chan fsnotify.Event)}
		g := Glob(filepath.Join(root, "{{database}}.db"))
		g.glob.Notifications = func() (watch.Source, error) { return s, nil }
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		run, err := g.watch(ctx, func(ev WatchEvent) { got = append(got, fmt.Sprint(ev.Type, ev.Database.ID)) },
			func(db Database) bool { return db.ID == "a" })
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); run() }()
		for _, c := range []struct {
			name string
			op   fsnotify.Op
			want []string
		}{
			{"a.db-wal", fsnotify.Write, nil},
			{"b.db-wal", fsnotify.Write, []string{"1b"}},
			{"a.db-wal", fsnotify.Create, nil},
			{"a.db", fsnotify.Create, []string{"1a"}},
			{"a.db", fsnotify.Write, nil}, // the name was told
			{"a.db", fsnotify.Rename, []string{"2"}},
		} {
			got = nil
			s.events <- fsnotify.Event{Name: filepath.Join(root, c.name), Op: c.op}
			time.Sleep(10 * watch.Gap)
			synctest.Wait()
			if !slices.Equal(got, c.want) {
				t.Errorf("%v of %s: told %q, want %q", c.op, c.name, got, c.want)
			}
		}
		stop()
		<-done
	})
}

// TestAWriteIsNeedlessOnlyToADatabaseThatIsLookedAtAnyway takes each reason away.
func TestAWriteIsNeedlessOnlyToADatabaseThatIsLookedAtAnyway(t *testing.T) {
	root, state := t.TempDir(), t.TempDir()
	rep, err := NewFileReplica(t.TempDir(), "{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	base := time.Now()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		m := started(t, WithDiscoverer(Glob(filepath.Join(root, "{{database}}.db"))), WithReplica(rep),
			WithStateDir(state), WithClock(func() time.Time { return base.Add(time.Since(began)) }), WithSyncInterval(time.Hour),
			WithHotDuration(10*time.Hour), WithColdSyncInterval(time.Hour), WithWatch(false))
		if err := m.Do(t.Context(), "a", func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE t(v)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Sync(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the run that answered has ended
		m.mu.Lock()
		defer m.unlock()
		e, now := m.reg.Get("a"), m.cfg.now()
		db := e.database()
		check := func(want bool, when string) {
			t.Helper()
			if got := m.needlessLocked(db); got != want {
				t.Errorf("%s: needless is %v", when, got)
			}
		}
		check(true, "hot")
		run := func(o schedule.Outcome) {
			t.Helper()
			m.fleet.Request(e.item, now)
			if it, _, ok := m.fleet.Next(now); !ok || it != e.item {
				t.Fatal("it is not due")
			}
			check(false, "running")
			m.fleet.Done(e.item, now, o)
		}
		run(schedule.Outcome{})
		check(true, "hot after a run")
		e.early = 1
		check(false, "hot just now")
		e.early, e.Held = 0, 1
		check(false, "about to be opened")
		e.Held = 0
		db.Path += "x"
		check(false, "by another path")
		db.Path = e.Path
		db.ID = "b"
		check(false, "unknown")
		db.ID = "a"
		m.cfg.syncInterval = 3 * time.Hour
		check(false, "looked at three times before it goes cold")
		m.cfg.syncInterval = time.Hour
		run(schedule.Outcome{Err: errors.New("failed")})
		check(false, "failing")
		run(schedule.Outcome{Demoted: true})
		check(false, "cold")
	})
}
