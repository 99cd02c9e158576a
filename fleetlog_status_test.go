package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// TestWhatIsCommittedWhileADatabaseBecomesColdIsUnpackedToo: it is shipped by the last run,
// and no other comes.
func TestWhatIsCommittedWhileADatabaseBecomesColdIsUnpackedToo(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 1, 1), rep, time.Hour, multidb.WithHotDuration(50*time.Millisecond),
		multidb.WithWatch(false), multidb.WithScanInterval(1000*time.Hour))
	const id = "project0/db0"
	var late sync.Once
	rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: id, Match: func(op multidbtest.Operation) bool {
		late.Do(func() { f.writeBeside(id, "late") }) // it is being unpacked
		return false
	}})
	f.insert(id, "a")
	st := f.status(id, "cold", func(st multidb.Status) bool { return st.Tier == multidb.Cold && st.UnpackedTXID != 0 })
	if got := unpacked(rep, id); st.UnpackedTXID != st.TXID || got != st.TXID {
		t.Errorf("it is cold, at transaction %s, %s unpacked by the status, and %s in the prefix", st.TXID, st.UnpackedTXID, got)
	}
	if got, want := f.restored(id, multidb.RestoreOptions{}), []string{"0", "1", "2", "a", "late"}; !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
}

// inLog matches an event of the fleet log.
func inLog(typ multidb.EventType, epoch uint64) func(multidb.Event) bool {
	return func(ev multidb.Event) bool { return ev.Type == typ && ev.Epoch == epoch && ev.ID == "" }
}

func TestStatsCountWhatTheLogHasThatPrefixesLack(t *testing.T) {
	rep := multidbtest.NewReplica()
	const dbs = 5
	f := startLogged(t, newTree(t, 1, dbs), rep, time.Hour)
	if s := f.m.Stats().FleetLog; s.Unpacks != 0 || s.Fenced {
		t.Errorf("at the start: %+v", s)
	}
	for i := range dbs {
		f.sync(multidb.ID(fmt.Sprintf("project0/db%d", i)))
	}
	s := f.m.Stats()
	if l := s.FleetLog; l.Epoch != 1 || l.Files != dbs || l.Objects < 1 || l.Objects > dbs || l.Bytes == 0 || l.Queued != 0 ||
		l.Tails != dbs || l.TailBytes != l.Bytes || l.Pending != int(l.Objects) || l.Unpacks != 0 || l.Fenced {
		t.Errorf("nothing is unpacked: %+v", l)
	}
	var puts int64
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpCreateObject {
			puts++
		}
	}
	if puts < s.FleetLog.Objects || s.Requests.Put < puts {
		t.Errorf("%d objects, %d of the log created, %d PUTs counted", s.FleetLog.Objects, puts, s.Requests.Put)
	}
	f.events.wait(t, "the log has begun", inLog(multidb.EventFleetLogBegun, 1))
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if l := f.m.Stats().FleetLog; l.Tails != 0 || l.TailBytes != 0 || l.Pending != 0 || l.Unpacks != dbs {
		t.Errorf("closed: %+v", l)
	}
}

// TestAPrefixThatCannotBeWrittenIsAReason: what is committed is durable in the log
// meanwhile, and the other databases are well.
func TestAPrefixThatCannotBeWrittenIsAReason(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 1, 2), rep, 50*time.Millisecond)
	t.Cleanup(rep.ClearFaults)
	const id = "project0/db0"
	f.sync("project0/db1")
	refused := errors.New("the prefix is read-only")
	in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: id, Err: refused})
	f.insert(id, "a")
	pos := f.sync(id) // the log takes it
	f.healthy(false, id)
	st := f.status(id, "refused", func(st multidb.Status) bool { return st.Err != nil })
	if st.TXID != pos.TXID || st.UnpackedTXID != 0 || !errors.Is(st.Err, refused) || !strings.Contains(st.Err.Error(), "unpack") {
		t.Errorf("durable %s of %s, unpacked %s: %v", st.TXID, pos.TXID, st.UnpackedTXID, st.Err)
	}
	f.events.wait(t, "it is told", func(ev multidb.Event) bool {
		return ev.Type == multidb.EventFailed && ev.ID == id && errors.Is(ev.Err, refused)
	})
	f.insert(id, "b")
	f.sync(id)
	in.Clear()
	f.healthy(true, id)
	f.status(id, "unpacked", func(st multidb.Status) bool { return st.UnpackedTXID == st.TXID && st.Err == nil })
}

// TestALogThatAcknowledgesNothingIsAReason, and it comes first.
func TestALogThatAcknowledgesNothingIsAReason(t *testing.T) {
	for name, fault := range map[string]multidbtest.Fault{
		"no answer": {Hang: true},
		"an error":  {Err: errors.New("no space")},
	} {
		t.Run(name, func(t *testing.T) {
			rep := multidbtest.NewReplica()
			f := startLogged(t, newTree(t, 1, 1), rep, time.Hour)
			t.Cleanup(rep.ClearFaults)
			const id = "project0/db0"
			pos := f.sync(id)
			fault.Op = multidbtest.OpCreateObject
			in := rep.Inject(fault)
			f.insert(id, "a")
			var worst []multidb.Status
			eventually(t, "the log is a reason", func() bool {
				var ok bool
				ok, worst = f.m.Healthy(100 * time.Millisecond)
				return !ok && len(worst) == 2
			})
			if log := worst[0]; log.ID != "" || log.Err == nil || !strings.Contains(log.Err.Error(), "fleet log fleet, epoch 1: ") || log.ErrSince.IsZero() {
				t.Errorf("%+v", log)
			}
			if db := worst[1]; db.ID != id || db.TXID != pos.TXID || db.Lag == 0 {
				t.Errorf("%+v", db)
			}
			in.Clear()
			eventually(t, "all is well", func() bool { ok, _ := f.m.Healthy(time.Minute); return ok })
			f.status(id, "durable", func(st multidb.Status) bool { return st.TXID > pos.TXID && st.Lag == 0 && st.Err == nil })
		})
	}
}

func TestALogThatIsTakenOverIsToldOfOnBothSides(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	const id = "project0/db0"
	one, two := t.TempDir(), t.TempDir()
	first := startLogged(t, root, rep, time.Hour, multidb.WithStateDir(one))
	first.sync(id)
	other := first.sync("project0/db1") // which the second does not know
	// Another machine: it restores what the first has, as it has no files.
	second := startLogged(t, newTree(t, 0, 0), rep, time.Hour, multidb.WithStateDir(two), multidb.WithRestoreOnOpen())
	second.insert(id, "there")
	second.sync(id)
	second.events.wait(t, "the former log was taken over", func(ev multidb.Event) bool {
		return inLog(multidb.EventFleetLogTakenOver, 1)(ev) && ev.Path == one
	})
	second.events.wait(t, "the second log has begun", inLog(multidb.EventFleetLogBegun, 2))
	first.insert(id, "here")
	if _, err := first.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrFenced) {
		t.Errorf("the first one's Sync: %v", err)
	}
	ev := first.events.wait(t, "fenced", inLog(multidb.EventFleetLogFenced, 1))
	if !errors.Is(ev.Err, multidb.ErrFenced) || !strings.Contains(ev.Err.Error(), two) {
		t.Errorf("fenced by %v, want %s", ev.Err, two)
	}
	ok, worst := first.m.Healthy(time.Hour)
	if ok || worst[0].ID != "" || !errors.Is(worst[0].Err, multidb.ErrFenced) || !strings.Contains(worst[0].Err.Error(), two) || worst[0].ErrSince.IsZero() {
		t.Errorf("healthy is %v: %+v", ok, worst)
	}
	// The other one is fenced as well, which its next run finds out.
	if s := first.m.Stats(); !s.FleetLog.Fenced || s.Unwell[multidb.ReasonFenced] == 0 {
		t.Errorf("%+v", s)
	}
	if ok, worst := second.m.Healthy(time.Hour); !ok {
		t.Errorf("the second: %+v", worst)
	}
	eventually(t, "what it does not know is unpacked", func() bool { return unpacked(rep, "project0/db1") == other.TXID })
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	second.events.wait(t, "the former log is finished", inLog(multidb.EventFleetLogFinished, 1))
}

// TestWhatIsOnItsWayIsNotAtTheReplica: bytes, position and lag speak of what is durable.
func TestWhatIsOnItsWayIsNotAtTheReplica(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 1, 1), rep, time.Hour)
	t.Cleanup(rep.ClearFaults)
	const id = "project0/db0"
	f.insert(id, "first")
	pos := f.sync(id)
	before := f.status(id, "durable", func(st multidb.Status) bool { return st.TXID == pos.TXID && st.LagBytes == 0 && st.WALPos > 0 })
	counted := f.m.Stats().Lag.Count
	in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, Hang: true})
	f.insert(id, "second")
	<-in.Hit()
	f.insert(id, "third")
	const frame = 4096 + 24
	st := f.status(id, "two commits behind", func(st multidb.Status) bool { return st.LagBytes == 2*frame })
	if st.WALPos-st.LagBytes != before.WALPos || st.TXID != pos.TXID || st.Lag == 0 || !st.SyncedAt.Before(st.LastWrite) {
		t.Errorf("%d of %d bytes of the WAL are at the replica, which had %d: %+v", st.WALPos-st.LagBytes, st.WALPos, before.WALPos, st)
	}
	if n := f.m.Stats().Lag.Count - counted; n != 0 {
		t.Errorf("the lag of %d commits was counted, none of which is durable", n)
	}
	in.Clear()
	f.status(id, "durable", func(after multidb.Status) bool {
		return after.LagBytes == 0 && after.Lag == 0 && after.WALPos == st.WALPos && after.TXID > pos.TXID
	})
	eventually(t, "their lags are counted", func() bool { n := f.m.Stats().Lag.Count - counted; return n == 1 || n == 2 })
}

// TestWhatWasTakenOverIsUnpackedWithoutAWrite to the database, and the log is finished.
func TestWhatWasTakenOverIsUnpackedWithoutAWrite(t *testing.T) {
	rep := multidbtest.NewReplica()
	root, state := newTree(t, 1, 3), t.TempDir()
	in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: errors.New("no prefix can be written")})
	t.Cleanup(rep.ClearFaults)
	f := startLogged(t, root, rep, time.Hour, multidb.WithStateDir(state), multidb.WithPromotion(0, 0))
	f.insert("project0/db0", "a")
	pos := f.sync("project0/db0")
	f.sync("project0/db1")
	if err := f.close(); err != nil { // as after a crash, all is in the log alone
		t.Fatal(err)
	}
	in.Clear()
	if got := unpacked(rep, "project0/db0"); got != 0 {
		t.Fatalf("%s is unpacked", got)
	}
	f = startLogged(t, root, rep, 200*time.Millisecond, multidb.WithStateDir(state), multidb.WithPromotion(0, 0)) // nothing is hot
	if st := f.status("project0/db0", "known", func(multidb.Status) bool { return true }); st.TXID != pos.TXID || st.UnpackedTXID != 0 {
		t.Errorf("before anything is asked: durable %s, unpacked %s", st.TXID, st.UnpackedTXID)
	}
	f.insert("project0/db2", "the log begins")
	f.sync("project0/db2")
	f.status("project0/db0", "unpacked", func(st multidb.Status) bool { return st.TXID == pos.TXID && st.UnpackedTXID == pos.TXID })
	if got := unpacked(rep, "project0/db0"); got != pos.TXID {
		t.Errorf("the prefix has %s of %s", got, pos.TXID)
	}
	f.events.wait(t, "the former log is finished", inLog(multidb.EventFleetLogFinished, 1))
}

// TestARestartCostsNoSnapshotWhereNothingWasUnpackedYet: the log has all of it.
func TestARestartCostsNoSnapshotWhereNothingWasUnpackedYet(t *testing.T) {
	rep := multidbtest.NewReplica()
	root, state := newTree(t, 1, 1), t.TempDir()
	const id = "project0/db0"
	in := rep.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Err: errors.New("no prefix can be written")})
	t.Cleanup(rep.ClearFaults)
	f := startLogged(t, root, rep, time.Hour, multidb.WithStateDir(state))
	f.sync(id)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	in.Clear()
	f = startLogged(t, root, rep, 100*time.Millisecond, multidb.WithStateDir(state))
	for range 3 {
		f.insert(id, "more")
		pos := f.sync(id)
		f.status(id, "unpacked", func(st multidb.Status) bool { return st.UnpackedTXID >= pos.TXID })
	}
	for _, op := range rep.Operations() {
		if op.Op == multidbtest.OpWrite && op.Level == 9 && op.Err == nil {
			t.Error(op)
		}
	}
}

// TestAHandOverLeavesNothingInTheLog: the machine that goes on may not know it.
func TestAHandOverLeavesNothingInTheLog(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := startLogged(t, newTree(t, 1, 1), rep, time.Hour)
	const id = "project0/db0"
	f.insert(id, "a")
	pos := f.sync(id)
	f.insert(id, "b") // which is not synced
	if err := f.m.HandOver(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := unpacked(rep, id); got <= pos.TXID {
		t.Errorf("the prefix has %s, Sync said %s before the last commit", got, pos.TXID)
	}
	if s := f.m.Stats().FleetLog; s.Tails != 0 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if err := multidb.RestoreFrom(t.Context(), rep, multidb.Database{ID: id}, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(t, out); got != 5 {
		t.Errorf("%d rows of 5", got)
	}
}
