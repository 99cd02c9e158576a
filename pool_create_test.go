package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func nothing(*sql.DB) error { return nil }

// backedUp is a replica that has project0/db0, and nothing else does any more.
func backedUp(t *testing.T) (*multidbtest.Replica, string) {
	t.Helper()
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	f.sync("project0/db0")
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	rep.ResetOperations()
	return rep, t.TempDir()
}

func TestANewDatabaseDoesNotTakeThePlaceOfABackup(t *testing.T) {
	const id = "project0/db0"
	t.Run("it is refused, and nothing is made", func(t *testing.T) {
		rep, root := backedUp(t)
		f := start(t, root, multidb.WithReplica(rep))
		for range 2 {
			_, err := f.m.Acquire(t.Context(), id)
			var e *multidb.Error
			if !errors.Is(err, multidb.ErrBackupExists) || !errors.As(err, &e) || e.ID != id {
				t.Errorf("got %v", err)
			}
			for _, way := range []string{"WithRestoreOnOpen", "WithTakeover", "0000000000000001"} {
				if err == nil || !strings.Contains(err.Error(), way) {
					t.Errorf("%v does not name %s", err, way)
				}
			}
		}
		if _, err := os.Stat(filepath.Join(root, "project0")); !errors.Is(err, os.ErrNotExist) || f.m.Stats().Databases != 0 {
			t.Errorf("something was made: %v, %d databases", err, f.m.Stats().Databases)
		}
		if n := countWrites(rep, "db0"); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
	t.Run("also where it was deleted here", func(t *testing.T) {
		root := newTree(t, 1, 1)
		f := start(t, root, multidb.WithReplica(multidbtest.NewReplica()))
		f.sync(id)
		if err := os.RemoveAll(filepath.Join(root, "project0")); err != nil {
			t.Fatal(err)
		}
		becomes(t, "forgotten", func() bool { return f.m.Stats().Databases == 0 })
		if err := f.m.Do(t.Context(), id, nothing); !errors.Is(err, multidb.ErrBackupExists) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("restore on open brings it back", func(t *testing.T) {
		rep, root := backedUp(t)
		f := start(t, root, multidb.WithReplica(rep), multidb.WithRestoreOnOpen())
		f.insert(id, "x")
	})
	t.Run("who may replace it is not asked", func(t *testing.T) {
		rep, root := backedUp(t)
		f := start(t, root, multidb.WithReplica(rep), multidb.WithTakeover(multidb.TakeoverUnknown))
		if err := f.m.Do(t.Context(), id, nothing); err != nil {
			t.Error(err)
		}
	})
}

func TestANewDatabaseCostsOneListing(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, t.TempDir(), multidb.WithReplica(rep))
	for i := range 20 {
		id := multidb.ID(fmt.Sprint("project0/db", i))
		err := f.m.Do(t.Context(), id, func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE t(v)")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		f.sync(id)
	}
	if n := rep.RequestStats().List; n != 20 {
		t.Errorf("%d listings for 20 databases", n)
	}
	for i := range 20 { // and none for one that is known
		if err := f.m.Do(t.Context(), multidb.ID(fmt.Sprint("project0/db", i)), nothing); err != nil {
			t.Fatal(err)
		}
	}
	if n := rep.RequestStats().List; n != 20 {
		t.Errorf("%d listings after opening them again", n)
	}
}

// TestANewDatabaseIsMadeWhileTheReplicaDoesNotAnswer, within 5 s for the first and
// at once for those after it.
func TestANewDatabaseIsMadeWhileTheReplicaDoesNotAnswer(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rep := multidbtest.NewReplica()
		m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(rep), multidb.WithWatch(false))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		hang := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Hang: true})
		took := func(name string) time.Duration {
			began := time.Now()
			if err := m.Do(t.Context(), multidb.ID("p/"+name), nothing); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if d := took("first"); d != 5*time.Second {
			t.Errorf("the first took %v", d)
		}
		if d := took("second"); d != 0 {
			t.Errorf("the second took %v", d)
		}
		<-time.After(time.Minute)
		if d := took("third"); d != 5*time.Second {
			t.Errorf("a minute later one took %v", d)
		}
		hang.Clear()
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAFileMadeWhileTheReplicaDidNotAnswerDoesNotReplaceTheBackup: the application
// may write, and nothing of it is shipped over the history that there is.
func TestAFileMadeWhileTheReplicaDidNotAnswerDoesNotReplaceTheBackup(t *testing.T) {
	const id = "project0/db0"
	rep, root := backedUp(t)
	f := start(t, root, multidb.WithReplica(rep))
	away := rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Err: errors.New("away")})
	for _, id := range []multidb.ID{id, "project0/new"} { // the second is not asked for any more
		err := f.m.Do(t.Context(), id, func(db *sql.DB) error { _, err := db.Exec("CREATE TABLE other(v)"); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	away.Clear()
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) || !errors.Is(err, multidb.ErrBackupExists) {
		t.Errorf("Sync: %v", err)
	}
	f.sync("project0/new")
	if n := countWrites(rep, "db0"); n != 0 {
		t.Errorf("%d writes", n)
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2]" {
		t.Errorf("restored %s", got)
	}
}
