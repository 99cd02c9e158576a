package multidb_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// startLogged is start with a fleet log that is unpacked every so often.
func startLogged(t *testing.T, root string, rep multidb.ReplicaFactory, every time.Duration, opts ...multidb.Option) *fleet {
	t.Helper()
	return start(t, root, append(opts, multidb.WithReplica(rep),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet", UnpackInterval: every}))...)
}

// unpacked is the last transaction that the prefix of a database has, for whoever does not
// know the log.
func unpacked(rep *multidbtest.Replica, prefix string) (last multidb.TXID) {
	for _, f := range rep.Files(prefix) {
		last = max(last, f.MaxTXID)
	}
	return last
}

func TestStatusTellsWhatIsDurableFromWhatIsUnpacked(t *testing.T) {
	rep := multidbtest.NewReplica()
	root, state := newTree(t, 1, 2), t.TempDir()
	const id, still = "project0/db0", "project0/db1"
	f := startLogged(t, root, rep, time.Hour, multidb.WithStateDir(state))
	f.sync(still)
	f.insert(id, "a")
	pos := f.sync(id)
	st := f.status(id, "durable", func(st multidb.Status) bool { return st.TXID == pos.TXID && st.Lag == 0 })
	if st.UnpackedTXID != 0 || unpacked(rep, id) != 0 {
		t.Errorf("nothing is unpacked, the status says %s, the prefix has %s", st.UnpackedTXID, unpacked(rep, id))
	}
	if ok, worst := f.m.Healthy(time.Minute); !ok {
		t.Errorf("durable in the log and not well: %+v", worst)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if got := unpacked(rep, id); got != pos.TXID {
		t.Fatalf("after Close the prefix has %s of %s", got, pos.TXID)
	}
	// The catalog has it: a database at rest is asked of nobody.
	before := rep.RequestStats().Total()
	f = startLogged(t, root, rep, time.Hour, multidb.WithStateDir(state))
	st = f.status(id, "known", func(st multidb.Status) bool { return st.TXID == pos.TXID })
	if st.UnpackedTXID != pos.TXID {
		t.Errorf("after a restart the status says that %s of %s is unpacked", st.UnpackedTXID, pos.TXID)
	}
	if n := rep.RequestStats().Total() - before; n != 0 {
		t.Errorf("it took %d requests", n)
	}
}

func TestWithoutALogEverythingIsUnpacked(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	pos := f.sync("project0/db0")
	if st := f.status("project0/db0", "synced", func(st multidb.Status) bool { return st.TXID == pos.TXID }); st.UnpackedTXID != pos.TXID {
		t.Errorf("%s of %s", st.UnpackedTXID, st.TXID)
	}
}

// TestADatabaseThatIsWrittenAllTheTimeIsUnpackedAllTheSame: some of it is always on its way.
func TestADatabaseThatIsWrittenAllTheTimeIsUnpackedAllTheSame(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 1, 1), rep, 100*time.Millisecond, multidb.WithCheckpointPages(50))
	const id = "project0/db0"
	every := time.NewTicker(5 * time.Millisecond) // four commits each sync interval
	defer every.Stop()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		if err := f.m.Do(t.Context(), id, func(db *sql.DB) error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				case <-every.C:
				}
				if _, err := db.Exec("INSERT INTO t(v) VALUES(?)", fmt.Sprint(i)); err != nil {
					return err
				}
			}
		}); err != nil {
			t.Error(err)
		}
	}()
	var last multidb.TXID
	for range 4 {
		st := f.status(id, "unpacked again", func(st multidb.Status) bool { return st.UnpackedTXID > last })
		last = st.UnpackedTXID
		if st.UnpackedTXID > st.TXID {
			t.Errorf("unpacked %s, durable %s", st.UnpackedTXID, st.TXID)
		}
		if got := unpacked(rep, id); got < last {
			t.Errorf("the status says that %s is unpacked, the prefix has %s", last, got)
		}
	}
	if st := f.status(id, "checkpointed", func(st multidb.Status) bool { return st.WALSize > 0 && st.TXID > 100 }); st.WALSize > 200*4120 {
		t.Errorf("the WAL has %d bytes after %s transactions", st.WALSize, st.TXID)
	}
	close(stop)
	<-stopped
	f.sync(id)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if n := f.m.Stats().Resyncs; n != 0 {
		t.Errorf("shipped %d times as a whole", n)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if err := multidb.RestoreFrom(t.Context(), rep, multidb.Database{ID: id}, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	if got, want := rowsOf(t, out), rowsOf(t, filepath.Join(f.root, "project0/databases/db0.db")); got != want {
		t.Errorf("the prefix has %d rows of %d", got, want)
	}
}
