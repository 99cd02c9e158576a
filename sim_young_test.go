package multidb_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// quietWorld is a world with one cold database, all of which is shipped.
func quietWorld(t *testing.T, dir string) (*world, *subject) {
	w := newWorld(t, 1, dir)
	w.limits = limits{sync: time.Second, cold: 30 * time.Second, scan: 5 * time.Second, hot: 5 * time.Second,
		retention: time.Hour, retentionInterval: time.Hour, l0: time.Hour, snapshot: time.Hour,
		maxHot: 1, maxOpen: 1, uploads: 1, pages: 1000, walSize: 1 << 20}
	s := w.sorted()[0]
	w.makeForeign(s)
	w.start()
	s.moved = false
	w.pass(2 * w.limits.atRest())
	w.checkAtRest(s)
	return w, s
}

// other is another program's connection, which keeps the WAL where it is.
func (w *world) other(s *subject) *sql.DB {
	db, err := foreign(s.path, "&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		w.fail("%v", err)
	}
	return db
}

// alter commits, now.
func (w *world) alter(s *subject, db *sql.DB) {
	for was := s.cur; s.cur == was; {
		w.commitSome(s, db, 1)
	}
}

// TestTwoWritesWithinOneTickAreBothFound: the second leaves the time stamps as the
// first did, and a cold database is known by its stamps alone. Red without Young
// in internal/schedule/run.go, afterRun.
func TestTwoWritesWithinOneTickAreBothFound(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		w, s := quietWorld(t, dir)
		db := w.other(s)
		defer db.Close()
		w.alter(s, db)
		if _, err := w.m.Sync(t.Context(), s.id); err != nil {
			w.fail("%v", err)
		}
		w.alter(s, db)
		w.pass(w.limits.atRest())
		w.checkAtRest(s)
		w.end()
	})
}

// TestAWriteWithinTheTickOfTheLastLookIsFoundAfterACrash: the catalog, of which
// this is a copy from the midst of a run, must not take the second write for the
// first. Red without !st.young in Record (internal/replicate/state.go).
func TestAWriteWithinTheTickOfTheLastLookIsFoundAfterACrash(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		w, s := quietWorld(t, dir)
		db := w.other(s)
		defer db.Close()
		w.alter(s, db)
		tick := w.stamps.told(s.path + "-wal")
		if _, err := w.m.Sync(t.Context(), s.id); err != nil {
			w.fail("%v", err)
		}
		time.Sleep(1100 * time.Millisecond) // until the catalog is written
		synctest.Wait()
		state, old := filepath.Join(dir, "state"), filepath.Join(dir, "old")
		if err := os.CopyFS(old, os.DirFS(state)); err != nil {
			w.fail("%v", err)
		}
		w.shutDown()
		if err := os.RemoveAll(state); err != nil {
			w.fail("%v", err)
		}
		if err := os.Rename(old, state); err != nil {
			w.fail("%v", err)
		}
		w.alter(s, db)
		w.stamps.backdate(s.path+"-wal", tick)
		w.start()
		w.pass(w.limits.atRest())
		w.checkAtRest(s)
		w.end()
	})
}
