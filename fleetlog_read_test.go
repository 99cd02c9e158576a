package multidb_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/superfly/ltx"
)

func TestAWrongFleetLogIsRefusedByNew(t *testing.T) {
	url, err := multidb.NewURLReplica("file:///backup/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		replica multidb.ReplicaFactory
		cfg     multidb.FleetLogConfig
		want    string
	}{
		{"a path that leads out of the replica", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "a/../../b"}, `Path is "a/../../b"; want a relative path`},
		{"a path from the root", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "/fleet"}, `Path is "/fleet"; want a relative path`},
		{"a path for each tenant", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "fleet/{{tenant}}"}, "it is one directory for all tenants"},
		{"a negative interval", multidbtest.NewReplica(), multidb.FleetLogConfig{UnpackInterval: -1}, "UnpackInterval is -1ns; want a duration above zero"},
		{"a negative size", multidbtest.NewReplica(), multidb.FleetLogConfig{UnpackSize: -5}, "UnpackSize is -5; want a size above zero"},
		{"a negative retention", multidbtest.NewReplica(), multidb.FleetLogConfig{LogRetention: -1}, "LogRetention is -1ns; want a duration above zero"},
		{"no replica", nil, multidb.FleetLogConfig{}, "there is no replica; add multidb.WithReplica"},
		{"a replica without objects", url, multidb.FleetLogConfig{}, "a *multidb.URLReplica keeps no plain objects"},
	} {
		t.Run(c.name+" is an invalid option", func(t *testing.T) {
			opts := []multidb.Option{multidb.WithDiscoverer(multidb.Glob(t.TempDir() + "/{{tenant}}.db")), multidb.WithFleetLog(c.cfg)}
			if c.replica != nil {
				opts = append(opts, multidb.WithReplica(c.replica))
			}
			if _, err := multidb.New(opts...); !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %s", err, c.want)
			}
		})
	}
	for _, opt := range []multidb.FleetLogConfig{{}, {Path: "a/b"}} {
		if _, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/{{tenant}}.db")), multidb.WithFleetLog(opt),
			multidb.WithReplica(multidbtest.NewReplica())); err != nil {
			t.Error(err)
		}
	}
}

// factories are an empty memory replica and an empty file replica.
func factories(t *testing.T) map[string]multidb.ReplicaFactory {
	file, err := multidb.NewFileReplica(t.TempDir(), "litestream/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]multidb.ReplicaFactory{"memory": multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{tenant}}")), "files": file}
}

// owner starts a Manager with a fleet log, which unpacks nothing by itself.
func owner(t *testing.T, replica multidb.ReplicaFactory, root string, opts ...multidb.Option) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(append([]multidb.Option{multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{tenant}}.db"))),
		multidb.WithReplica(replica), multidb.WithStateDir(t.TempDir()), multidb.WithHotDuration(time.Hour),
		multidb.WithFleetLog(multidb.FleetLogConfig{UnpackInterval: time.Hour})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// closed closes a Manager.
func closed(t *testing.T, m *multidb.Manager) {
	t.Helper()
	if err := m.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// commit adds a row to a database and returns the transaction that has it at the replica.
func commit(t *testing.T, m *multidb.Manager, id multidb.ID) multidb.TXID {
	t.Helper()
	insert(t, m, id)
	pos, err := m.Sync(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return pos.TXID
}

func tenantOf(id multidb.ID) multidb.Database {
	return multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
}

// restoredRows restores a database and counts its rows.
func restoredRows(t *testing.T, f multidb.ReplicaFactory, db multidb.Database, opt multidb.RestoreOptions) int {
	t.Helper()
	opt.OutputPath = filepath.Join(t.TempDir(), "out.db")
	if err := multidb.RestoreFrom(t.Context(), f, db, opt); err != nil {
		t.Fatalf("%s: %v", db.ID, err)
	}
	return rowsOf(t, opt.OutputPath)
}

func readingLog(t *testing.T, f multidb.ReplicaFactory, path string) multidb.ReplicaFactory {
	t.Helper()
	r, err := multidb.ReadFleetLog(f, path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tenantIDs are the databases that a factory lists.
func tenantIDs(t *testing.T, f multidb.ReplicaFactory) map[multidb.ID]multidb.Database {
	t.Helper()
	all := map[multidb.ID]multidb.Database{}
	for db, err := range multidb.ListTenants(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[db.ID]; twice {
			t.Errorf("%s is listed twice", db.ID)
		}
		all[db.ID] = db
	}
	return all
}

func TestWhatOnlyTheFleetLogHasIsListedAndRestoredBesideItsOwner(t *testing.T) {
	t.Parallel()
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			m := owner(t, replica, t.TempDir())
			defer closed(t, m)
			const commits = 5
			txids := map[multidb.ID][]multidb.TXID{}
			for range commits {
				for _, id := range []multidb.ID{"a", "b", "c"} {
					txids[id] = append(txids[id], commit(t, m, id))
				}
			}
			if all := tenantIDs(t, replica); len(all) != 0 {
				t.Fatalf("%v were unpacked, so that the test proves nothing", all)
			}
			if err := multidb.RestoreFrom(t.Context(), replica, tenantOf("a"), multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "x")}); !errors.Is(err, multidb.ErrNoBackup) {
				t.Errorf("from the prefix: %v", err)
			}
			for _, path := range []string{"", "fleet"} {
				r := readingLog(t, replica, path)
				all := tenantIDs(t, r)
				if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []multidb.ID{"a", "b", "c"}) {
					t.Errorf("path %q: listed %q", path, got)
				}
				for id, db := range all {
					if n := restoredRows(t, r, db, multidb.RestoreOptions{}); n != commits {
						t.Errorf("path %q: %s has %d rows of %d", path, id, n, commits)
					}
					files, err := multidb.ReplicaFiles(t.Context(), r, db, true)
					if err != nil || len(files) == 0 || files[len(files)-1].MaxTXID != txids[id][commits-1] {
						t.Fatalf("path %q: %s has %d files, %v; want transactions up to %s", path, id, len(files), err, txids[id][commits-1])
					}
					for i, txid := range txids[id] {
						if n := restoredRows(t, r, db, multidb.RestoreOptions{TXID: txid}); n != i+1 {
							t.Errorf("path %q: %s at %s has %d rows of %d", path, id, txid, n, i+1)
						}
						f := slices.IndexFunc(files, func(f *ltx.FileInfo) bool { return f.MaxTXID == txid })
						if f < 0 {
							t.Errorf("path %q: no file of %s ends at %s", path, id, txid)
						} else if n := restoredRows(t, r, db, multidb.RestoreOptions{Timestamp: files[f].CreatedAt.Add(time.Millisecond)}); n != i+1 {
							t.Errorf("path %q: %s just after %s has %d rows of %d", path, id, txid, n, i+1)
						}
					}
				}
			}
		})
	}
}

func TestMetadataLeadsToWhatIsNewerInTheFleetLog(t *testing.T) {
	t.Parallel()
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			direct, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{tenant}}.db"))),
				multidb.WithReplica(replica), multidb.WithStateDir(filepath.Join(root, ".state")))
			if err != nil {
				t.Fatal(err)
			}
			if err := direct.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			commit(t, direct, "moved") // to the log later, so that its metadata.json is older
			closed(t, direct)
			state := multidb.WithStateDir(filepath.Join(root, ".state"))
			first := owner(t, replica, root, state)
			for _, id := range []multidb.ID{"moved", "new"} {
				commit(t, first, id)
			}
			closed(t, first)
			second := owner(t, replica, root, state)
			defer closed(t, second)
			newest := map[multidb.ID]multidb.TXID{}
			for _, id := range []multidb.ID{"moved", "new"} {
				newest[id] = commit(t, second, id)
			}
			for id, rows := range map[multidb.ID]int{"moved": 3, "new": 2} {
				if n := restoredRows(t, replica, tenantOf(id), multidb.RestoreOptions{}); n != rows {
					t.Errorf("%s has %d rows of %d", id, n, rows)
				}
				files, err := multidb.ReplicaFiles(t.Context(), replica, tenantOf(id), false)
				if last := slices.MaxFunc(files, func(a, b *ltx.FileInfo) int { return cmp.Compare(a.MaxTXID, b.MaxTXID) }); err != nil || last.MaxTXID != newest[id] {
					t.Errorf("%s ends at %v, %v; want %s", id, last, err, newest[id])
				}
			}
			if got := slices.Sorted(maps.Keys(tenantIDs(t, replica))); !slices.Equal(got, []multidb.ID{"moved", "new"}) {
				t.Errorf("listed %q", got)
			}
		})
	}
}

func TestWithoutAFleetLogARestoreMakesTheRequestsThatItAlwaysMade(t *testing.T) {
	replica, root := multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{tenant}}")), t.TempDir()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{tenant}}.db"))), multidb.WithReplica(replica))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, m, "a")
	closed(t, m)
	before := replica.RequestStats()
	restoredRows(t, replica, tenantOf("a"), multidb.RestoreOptions{})
	after := replica.RequestStats()
	if list, get := after.List-before.List, after.Get-before.Get; list != 1 || get != 2 || after.Total()-before.Total() != 3 {
		t.Errorf("%d lists and %d gets; want one of the prefix, one of its only file, and one of metadata.json", list, get)
	}
	// A reader looks once for a fleet log at the default path, however many databases it restores.
	r := readingLog(t, replica, "")
	before = replica.RequestStats()
	for range 5 {
		restoredRows(t, r, tenantOf("a"), multidb.RestoreOptions{})
	}
	after = replica.RequestStats()
	if list, get := after.List-before.List, after.Get-before.Get; list != 6 || get != 10 || after.Total()-before.Total() != 16 {
		t.Errorf("%d lists and %d gets for 5 restores; want 6 and 10", list, get)
	}
}

func TestUnpackGivesThePrefixWhatTheFleetLogHas(t *testing.T) {
	t.Parallel()
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			m := owner(t, replica, t.TempDir())
			defer closed(t, m)
			for round := range 3 {
				for range 2 {
					commit(t, m, "a")
				}
				commit(t, m, "b")
				insert(t, m, "a") // not synced yet
				if err := m.Unpack(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf("a"), multidb.RestoreOptions{}); n != 3*(round+1) {
					t.Errorf("round %d: the prefix has %d rows of %d", round, n, 3*(round+1))
				}
			}
			if files, err := multidb.ReplicaFiles(t.Context(), multidb.IgnoreFleetLog(replica), tenantOf("b"), false); err != nil || len(files) != 0 {
				t.Errorf("b was unpacked too: %d files, %v", len(files), err)
			}
			if err := m.Unpack(t.Context(), "a"); err != nil { // there is nothing
				t.Error(err)
			}
			if err := m.Unpack(t.Context(), "missing"); !errors.Is(err, multidb.ErrNotFound) {
				t.Errorf("of what is not there: %v", err)
			}
		})
	}
}

func TestUnpackSaysWhyThePrefixCannotBeWritten(t *testing.T) {
	replica := multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{tenant}}"))
	m := owner(t, replica, t.TempDir())
	defer closed(t, m)
	commit(t, m, "a")
	refused := errors.New("refused")
	replica.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: "litestream/a", Err: refused})
	for range 2 { // also while maintenance pauses
		if err := m.Unpack(t.Context(), "a"); !errors.Is(err, refused) {
			t.Errorf("error is %v", err)
		}
	}
	replica.ClearFaults()
	if err := m.Unpack(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestAnOwnerGoesOnWhereSomebodyElseHasUnpacked(t *testing.T) {
	t.Parallel()
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var troubles []multidb.Event
			m := owner(t, replica, t.TempDir(), multidb.WithObserver(func(e multidb.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Err != nil && e.Type != multidb.EventEmpty {
					troubles = append(troubles, e)
				}
			}))
			rows := 0
			for range 4 {
				for range 3 {
					commit(t, m, "a")
					rows++
				}
				if txid, err := multidb.UnpackFrom(t.Context(), readingLog(t, replica, ""), tenantOf("a")); err != nil || txid == 0 {
					t.Fatalf("unpacked up to %s, %v", txid, err)
				}
				commit(t, m, "a")
				rows++
				if err := m.Unpack(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf("a"), multidb.RestoreOptions{}); n != rows {
					t.Errorf("the prefix has %d rows of %d", n, rows)
				}
			}
			st, err := m.Status("a")
			if err != nil || st.Err != nil {
				t.Errorf("status %+v, %v", st, err)
			}
			files, err := multidb.ReplicaFiles(t.Context(), multidb.IgnoreFleetLog(replica), tenantOf("a"), false)
			if last := len(files) - 1; err != nil || files[last].Level == litestream.SnapshotLevel {
				t.Errorf("a snapshot was made of what is whole: %v, %v", files[last], err)
			}
			closed(t, m)
			if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf("a"), multidb.RestoreOptions{}); n != rows {
				t.Errorf("after Close the prefix has %d rows of %d", n, rows)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, e := range troubles {
				t.Errorf("%v of %s: %v", e.Type, e.ID, e.Err)
			}
		})
	}
}

func TestASnapshotThatIsDueIsMadeOnceAlsoWithAFleetLog(t *testing.T) {
	replica := multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{tenant}}"))
	var ahead atomic.Int64
	m := owner(t, replica, t.TempDir(), multidb.WithClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	defer closed(t, m)
	commit(t, m, "a")
	if err := m.Unpack(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(25 * time.Hour)) // more than the snapshot interval
	for range 5 {
		commit(t, m, "a")
		if err := m.Unpack(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	files, err := multidb.ReplicaFiles(t.Context(), multidb.IgnoreFleetLog(replica), tenantOf("a"), false)
	if err != nil {
		t.Fatal(err)
	}
	snapshots := slices.DeleteFunc(files, func(f *ltx.FileInfo) bool { return f.Level != litestream.SnapshotLevel })
	if len(snapshots) != 1 {
		t.Errorf("%d snapshots in a minute of an interval of a day: %v", len(snapshots), snapshots)
	}
}

func TestRestoreOnOpenHasWhatOnlyTheLogOfAnotherOwnerHas(t *testing.T) {
	t.Parallel()
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			first := owner(t, replica, t.TempDir())
			for range 3 {
				for _, id := range []multidb.ID{"log", "both"} {
					commit(t, first, id)
				}
			}
			if err := first.Unpack(t.Context(), "both"); err != nil {
				t.Fatal(err)
			}
			commit(t, first, "both")
			// The first machine is gone as far as anybody knows. In truth it still runs.
			second := owner(t, replica, t.TempDir(), multidb.WithRestoreOnOpen())
			for id, want := range map[multidb.ID]int{"log": 3, "both": 4} {
				var rows int
				if err := second.Do(t.Context(), id, func(db *sql.DB) error {
					return db.QueryRow("SELECT count(*) FROM t").Scan(&rows)
				}); err != nil || rows != want {
					t.Errorf("%s has %d rows of %d, %v", id, rows, want, err)
				}
			}
			insert(t, first, "log")
			if _, err := first.Sync(t.Context(), "log"); !errors.Is(err, multidb.ErrFenced) {
				t.Errorf("the first owner's Sync: %v", err)
			}
			if err := first.Close(context.Background()); err == nil {
				t.Error("the first owner closed as if all were durable")
			}
			for id, want := range map[multidb.ID]int{"log": 4, "both": 5} {
				commit(t, second, id)
				if n := restoredRows(t, readingLog(t, replica, ""), tenantOf(id), multidb.RestoreOptions{}); n != want {
					t.Errorf("restored %s has %d rows of %d", id, n, want)
				}
			}
			closed(t, second)
			for id, want := range map[multidb.ID]int{"log": 4, "both": 5} {
				if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf(id), multidb.RestoreOptions{}); n != want {
					t.Errorf("the prefix of %s has %d rows of %d", id, n, want)
				}
			}
		})
	}
}

func TestALogThatWasTakenOverIsUnpackedAlsoForTenantsThatNobodyHereKnows(t *testing.T) {
	for name, replica := range factories(t) {
		t.Run(name, func(t *testing.T) {
			first := owner(t, replica, t.TempDir())
			for range 2 {
				commit(t, first, "here")
				commit(t, first, "elsewhere")
			}
			second := owner(t, replica, t.TempDir(), multidb.WithRestoreOnOpen())
			commit(t, second, "here") // takes the log over, and knows nothing of the other
			closed(t, second)
			for id, want := range map[multidb.ID]int{"here": 3, "elsewhere": 2} {
				if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf(id), multidb.RestoreOptions{}); n != want {
					t.Errorf("the prefix of %s has %d rows of %d", id, n, want)
				}
			}
			_ = first.Close(context.Background()) // which is fenced, and would have unpacked it too
		})
	}
}

// twoTenants is a memory replica with two tenants of two commits each: the prefixes have the
// first, and the fleet log all.
func twoTenants(t *testing.T) *multidbtest.Replica {
	t.Helper()
	replica := multidbtest.NewReplica(multidbtest.WithPathTemplate("litestream/{{tenant}}"))
	m := owner(t, replica, t.TempDir())
	t.Cleanup(func() { closed(t, m) })
	for _, id := range []multidb.ID{"a", "b"} {
		commit(t, m, id)
		if err := m.Unpack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		commit(t, m, id)
	}
	return replica
}

func TestAFleetLogIsReadOnceForManyDatabases(t *testing.T) {
	replica := twoTenants(t)
	lists := func() (n int) {
		for _, op := range replica.Operations() {
			if op.Op == multidbtest.OpListObjects {
				n++
			}
		}
		return n
	}
	replica.ResetOperations()
	restoredRows(t, replica, tenantOf("a"), multidb.RestoreOptions{})
	once := lists()
	replica.ResetOperations()
	r := readingLog(t, replica, "")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			id := []multidb.ID{"a", "b"}[i%2]
			out := filepath.Join(t.TempDir(), "out.db")
			if err := multidb.RestoreFrom(t.Context(), r, tenantOf(id), multidb.RestoreOptions{OutputPath: out}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := lists(); n != once || once == 0 {
		t.Errorf("%d listings of the log for 20 restores, and %d for one", n, once)
	}
}

func TestALogThatCannotBeReadFailsTheRestoreAndIsReadAgain(t *testing.T) {
	replica := twoTenants(t)
	away := errors.New("the store is away")
	replica.Inject(multidbtest.Fault{Op: multidbtest.OpListObjects, Err: away, Times: 1})
	r := readingLog(t, replica, "")
	err := multidb.RestoreFrom(t.Context(), r, tenantOf("a"), multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "out.db")})
	if !errors.Is(err, away) || !strings.Contains(err.Error(), "read the fleet log fleet") {
		t.Errorf("the restore: %v", err)
	}
	if n := restoredRows(t, r, tenantOf("a"), multidb.RestoreOptions{}); n != 2 {
		t.Errorf("%d rows of 2", n)
	}
}

func TestADamagedLogIsAnErrorAndCanBeLeftOut(t *testing.T) {
	replica := twoTenants(t)
	store, err := replica.Objects("fleet")
	if err != nil {
		t.Fatal(err)
	}
	for o, err := range store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := replica.CorruptObject("fleet", o.Name, func(b []byte) []byte { return b[:len(b)/2] }); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []multidb.ReplicaFactory{replica, readingLog(t, replica, ""), readingLog(t, replica, "fleet")} {
		if err := multidb.RestoreFrom(t.Context(), f, tenantOf("a"), multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "out.db")}); !errors.Is(err, multidb.ErrDamaged) {
			t.Errorf("%T: %v; want ErrDamaged", f, err)
		}
	}
	if n := restoredRows(t, multidb.IgnoreFleetLog(replica), tenantOf("a"), multidb.RestoreOptions{}); n != 1 {
		t.Errorf("the prefix has %d rows of 1", n)
	}
}

func TestWhatReadsAFleetLogWritesNothing(t *testing.T) {
	replica := twoTenants(t)
	client, err := readingLog(t, replica, "").ReplicaClient(tenantOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	replica.ResetOperations()
	_, write := client.WriteLTXFile(t.Context(), 0, 9, 9, strings.NewReader("x"))
	for what, err := range map[string]error{
		"WriteLTXFile":   write,
		"DeleteLTXFiles": client.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{{MinTXID: 1, MaxTXID: 1}}),
		"DeleteAll":      client.DeleteAll(t.Context()),
		"WriteMetadata":  client.(multidb.MetadataStore).WriteMetadata(t.Context(), nil),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if ops := replica.Operations(); len(ops) != 0 {
		t.Errorf("it was done: %v", ops)
	}
}

func TestReadFleetLogRefusesWhatCannotHaveOne(t *testing.T) {
	url, err := multidb.NewURLReplica("file:///backup/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := multidb.ReadFleetLog(url, ""); !errors.Is(err, multidb.ErrInvalidOption) {
		t.Errorf("a replica without objects: %v", err)
	}
	for _, path := range []string{"/fleet", "a/../b", "{{tenant}}"} {
		if _, err := multidb.ReadFleetLog(multidbtest.NewReplica(), path); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("path %q: %v", path, err)
		}
	}
}

func TestWithoutTheFleetLogADatabaseIsNotRestoredToLessThanThatHas(t *testing.T) {
	replica := twoTenants(t) // a prefix has one commit, and the log two
	direct := func() *multidb.Manager {
		m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(t.TempDir(), "{{tenant}}.db"))), multidb.WithReplica(replica),
			multidb.WithStateDir(t.TempDir()), multidb.WithRestoreOnOpen())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return m
	}
	rows := func(m *multidb.Manager, id multidb.ID) (n int, err error) {
		err = m.Do(t.Context(), id, func(db *sql.DB) error { return db.QueryRow("SELECT count(*) FROM t").Scan(&n) })
		return n, err
	}
	m := direct()
	if n, err := rows(m, "a"); err == nil || !strings.Contains(err.Error(), "the fleet log fleet has transactions up to 0000000000000002, and the prefix up to 0000000000000001") {
		t.Errorf("%d rows, %v", n, err)
	}
	if _, err := multidb.UnpackFrom(t.Context(), replica, tenantOf("a")); err != nil {
		t.Fatal(err)
	}
	if n, err := rows(m, "a"); n != 2 || err != nil {
		t.Errorf("after an unpacking: %d rows, %v", n, err)
	}
	closed(t, m)
}
