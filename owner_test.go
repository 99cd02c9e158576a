package multidb_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// ownBox is a machine of its own: a disk with one tenant, x, and a state directory.
type ownBox struct {
	t       *testing.T
	dir     string
	replica multidb.ReplicaFactory
	m       *multidb.Manager
	events  *eventLog
}

func newBox(t *testing.T, replica multidb.ReplicaFactory) *ownBox {
	t.Helper()
	b := &ownBox{t: t, dir: t.TempDir(), replica: replica, events: newEventLog()}
	if err := os.Mkdir(filepath.Join(b.dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *ownBox) path() string { return filepath.Join(b.dir, "data", "x.db") }

func (b *ownBox) start(opts ...multidb.Option) {
	b.t.Helper()
	m, err := multidb.New(append([]multidb.Option{
		multidb.WithReplica(b.replica),
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(b.dir, "data", "{{tenant}}.db"))),
		multidb.WithStateDir(filepath.Join(b.dir, "state")),
		multidb.WithObserver(b.events.observe),
		multidb.WithSyncInterval(20 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := m.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.m = m
	b.t.Cleanup(func() { _ = (&fleet{m: m}).close() }) // fenced, it has something to complain of
}

func (b *ownBox) stop() {
	b.t.Helper()
	if err := (&fleet{m: b.m}).close(); err != nil {
		b.t.Fatal(err)
	}
}

const insertX = "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT); INSERT INTO t(v) VALUES(?)"

// insert commits through the pool.
func (b *ownBox) insert(v string) {
	b.t.Helper()
	if err := b.m.Do(b.t.Context(), "x", func(db *sql.DB) error { _, err := db.Exec(insertX, v); return err }); err != nil {
		b.t.Fatal(err)
	}
}

// write commits as another process would.
func (b *ownBox) write(v string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", b.path())
	if err == nil {
		_, err = db.Exec(insertX, v)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *ownBox) sync() multidb.TXID {
	b.t.Helper()
	pos, err := b.m.Sync(b.t.Context(), "x")
	if err != nil {
		b.t.Fatal(err)
	}
	return pos.TXID
}

// local is what the tenant has here.
func (b *ownBox) local() []string {
	b.t.Helper()
	return rows(b.t, b.path())
}

// newest is what a restore has now, or had at a transaction.
func (b *ownBox) newest(txid multidb.TXID) []string {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "restored.db")
	if err := b.m.Restore(b.t.Context(), "x", multidb.RestoreOptions{OutputPath: out, TXID: txid}); err != nil {
		b.t.Fatal(err)
	}
	return rows(b.t, out)
}

// isFenced fails the test unless the error says so.
func isFenced(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, multidb.ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
}

// namesBoth fails the test unless the error names both writers and the way out.
func namesBoth(t *testing.T, err error) {
	t.Helper()
	if strings.Count(err.Error(), "node ") < 2 || !strings.Contains(err.Error(), "dopt") {
		t.Errorf("the error does not name both writers and the way out: %v", err)
	}
}

// files is everything that the tenant's prefix has, with its content.
func (b *ownBox) files() map[string][32]byte {
	b.t.Helper()
	db := multidb.Database{ID: "x", Vars: []multidb.Var{{Name: "tenant", Value: "x"}}}
	client, err := b.replica.ReplicaClient(db)
	if err != nil {
		b.t.Fatal(err)
	}
	infos, err := multidb.ReplicaFiles(b.t.Context(), b.replica, db, false)
	if err != nil {
		b.t.Fatal(err)
	}
	all := map[string][32]byte{}
	for _, f := range infos {
		rc, err := client.OpenLTXFile(b.t.Context(), f.Level, f.MinTXID, f.MaxTXID, 0, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			b.t.Fatal(err)
		}
		all[fmt.Sprint(f.Level, f.MinTXID, f.MaxTXID)] = sha256.Sum256(data)
	}
	md, err := client.(multidb.MetadataStore).ReadMetadata(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	all["metadata"] = sha256.Sum256(md)
	return all
}

// stamp is what stat says of the tenant's file and its log: nothing opens them.
func (b *ownBox) stamp() string {
	b.t.Helper()
	var s bytes.Buffer
	for _, suffix := range []string{"", "-wal"} {
		fi, err := os.Stat(b.path() + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			b.t.Fatal(err)
		}
		fmt.Fprintf(&s, "%s inode %d, %d bytes; ", suffix, fi.Sys().(*syscall.Stat_t).Ino, fi.Size())
	}
	return s.String()
}

func (b *ownBox) equal(what string, got, want []string) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (b *ownBox) count(typ multidb.EventType) int {
	return b.events.count(func(ev multidb.Event) bool { return ev.Type == typ })
}

// ownershipStores are the replicas that the rules are tested over.
var ownershipStores = map[string]func(t *testing.T) multidb.ReplicaFactory{
	"file": func(t *testing.T) multidb.ReplicaFactory { return fileReplica(t, t.TempDir(), "p/{{tenant}}") },
	"memory": func(*testing.T) multidb.ReplicaFactory {
		return multidbtest.NewReplica(multidbtest.WithPathTemplate("p/{{tenant}}"))
	},
	"S3": func(t *testing.T) multidb.ReplicaFactory {
		r, _ := s3Replica(t, "p/{{tenant}}")
		return r
	},
}

// situation is what A finds at its start: it had shipped "a", and was stopped.
type situation struct {
	name   string
	beside bool // B went on and shipped "b"
	own    bool // "own" was committed to A's file meanwhile
	lost   bool // A's state directory was lost
	copied bool // A's state directory is a copy of what it was
	opts   []multidb.Option
	fenced bool // A's first write is refused
	// Where it is not: what the newest restore has after A's Sync.
	newest []string
}

var (
	onOpen  = multidb.WithRestoreOnOpen()
	unknown = multidb.WithTakeover(multidb.TakeoverUnknown)
)

// situations are the rows of the table in docs/DESIGN.md.
var situations = []situation{
	{name: "ours as we knew it", newest: []string{"a"}},
	{name: "ours as we knew it, and commits of its own", own: true, newest: []string{"a", "own"}},
	{name: "another's after ours, and nothing of its own", beside: true, fenced: true},
	{name: "another's after ours, and nothing of its own, TakeoverUnknown", beside: true, opts: []multidb.Option{unknown}, fenced: true},
	{name: "another's after ours, and nothing of its own, restored on open", beside: true, opts: []multidb.Option{onOpen}, newest: []string{"a", "b"}},
	{name: "another's after ours, and commits of its own", beside: true, own: true, fenced: true},
	{name: "another's after ours, and commits of its own, restored on open", beside: true, own: true, opts: []multidb.Option{onOpen}, fenced: true},
	{name: "another's after ours, and commits of its own, TakeoverUnknown", beside: true, own: true, opts: []multidb.Option{unknown}, fenced: true},
	{name: "unknown and equal", lost: true, newest: []string{"a"}},
	{name: "unknown and equal, a copy", copied: true, newest: []string{"a"}},
	{name: "unknown and different", lost: true, own: true, fenced: true},
	{name: "unknown and different, a copy", copied: true, beside: true, own: true, fenced: true},
	{name: "unknown and different, restored on open", lost: true, own: true, opts: []multidb.Option{onOpen}, fenced: true},
	{name: "unknown and different, TakeoverUnknown", lost: true, own: true, opts: []multidb.Option{unknown}, newest: []string{"a", "own"}},
	{name: "unknown and another's", lost: true, beside: true, fenced: true},
	{name: "unknown and another's, TakeoverUnknown", lost: true, beside: true, own: true, opts: []multidb.Option{unknown}, newest: []string{"a", "own"}},
}

// come makes the situation. B is nil if there is none; txid is the last one at the
// replica, and theirs what it restores to.
func (s situation) come(t *testing.T, replica multidb.ReplicaFactory) (a, b *ownBox, txid multidb.TXID, theirs []string) {
	t.Helper()
	a = newBox(t, replica)
	a.start()
	a.insert("a")
	txid, theirs = a.sync(), []string{"a"}
	a.stop()
	if s.beside {
		b = newBox(t, replica)
		b.start(onOpen)
		b.insert("b")
		txid, theirs = b.sync(), []string{"a", "b"}
		b.sync() // the run before has ended, with all its upkeep
	}
	if s.own {
		a.write("own")
	}
	state := filepath.Join(a.dir, "state")
	if s.copied {
		if err := os.CopyFS(state+".copy", os.DirFS(state)); err != nil {
			t.Fatal(err)
		}
	}
	if s.lost || s.copied {
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
	}
	if s.copied {
		if err := os.Rename(state+".copy", state); err != nil {
			t.Fatal(err)
		}
	}
	return a, b, txid, theirs
}

func TestWhoMayWriteAtTheFirstWriteAfterAStart(t *testing.T) {
	t.Parallel()
	for store, replica := range ownershipStores {
		for _, s := range situations {
			t.Run(store+"/"+s.name, func(t *testing.T) {
				a, b, txid, theirs := s.come(t, replica(t))
				before, stamp := a.files(), a.stamp()
				a.start(s.opts...)
				if !s.fenced {
					if b != nil && slices.Equal(s.newest, theirs) { // it has to be brought up to date first
						a.equal("on open", dump(t, a), theirs)
					}
					a.sync()
					a.equal("the newest restore", a.newest(0), s.newest)
					a.equal("the local file", dump(t, a), s.newest)
					a.insert("later")
					a.sync()
					a.equal("the newest restore", a.newest(0), append(slices.Clone(s.newest), "later"))
					a.equal("what another had", a.newest(txid), theirs)
					if a.count(multidb.EventFenced) != 0 {
						t.Error("it was fenced all the same")
					}
					b.fenced()
					return
				}
				for range 2 { // and it stays so
					_, err := a.m.Sync(t.Context(), "x")
					isFenced(t, err)
					namesBoth(t, err)
				}
				if st, err := a.m.Status("x"); err != nil || !errors.Is(st.Err, multidb.ErrFenced) || multidb.ReasonOf(st.Err) != multidb.ReasonFenced {
					t.Errorf("status: %v, %v", st.Err, err)
				}
				if ok, worst := a.m.Healthy(time.Hour); ok || len(worst) != 1 {
					t.Errorf("healthy %v, %v", ok, worst)
				}
				if got := a.stamp(); got != stamp {
					t.Errorf("the local file was %s and is %s", stamp, got)
				}
				a.stop2()
				ours := []string{"a"}
				if s.own {
					ours = append(ours, "own")
				}
				a.equal("the local file", a.local(), ours)
				if got := a.files(); !equalFiles(got, before) {
					t.Errorf("the replica had %d files, and has %d or other ones", len(before), len(got))
				}
			})
		}
	}
}

func TestWhoMayWriteIsForAnOperatorToSayWithoutARestart(t *testing.T) {
	t.Parallel()
	for store, replica := range ownershipStores {
		for _, s := range situations {
			if !s.fenced {
				continue
			}
			t.Run(store+"/"+s.name+"/take over", func(t *testing.T) {
				a, b, txid, theirs := s.come(t, replica(t))
				a.start(s.opts...)
				_, err := a.m.Sync(t.Context(), "x")
				isFenced(t, err)
				ours := []string{"a"}
				if s.own {
					ours = append(ours, "own")
				}
				if err := a.m.TakeOver(t.Context(), "x"); err != nil {
					t.Fatal(err)
				}
				a.equal("the newest restore", a.newest(0), ours)
				a.equal("the other history", a.newest(txid), theirs)
				a.well()
				a.insert("later")
				a.sync()
				a.equal("the newest restore", a.newest(0), append(ours, "later"))
				b.fenced()
				a.equal("the newest restore, after the other one's attempt", a.newest(0), append(ours, "later"))
			})
			t.Run(store+"/"+s.name+"/adopt", func(t *testing.T) {
				a, b, _, theirs := s.come(t, replica(t))
				a.start(s.opts...)
				_, err := a.m.Sync(t.Context(), "x")
				isFenced(t, err)
				before := a.files()
				kept, err := a.m.Adopt(t.Context(), "x")
				if err != nil {
					t.Fatal(err)
				}
				if got := a.files(); !equalFiles(got, before) {
					t.Error("it changed the replica")
				}
				ours := []string{"a"}
				if s.own {
					ours = append(ours, "own")
				}
				a.equal("what was kept", rows(t, kept), ours)
				if filepath.Base(filepath.Dir(kept)) != ".multidb-kept" || !strings.Contains(filepath.Base(kept), "adopted") {
					t.Errorf("it is kept as %s", kept)
				}
				a.equal("the local file", dump(t, a), theirs)
				a.well()
				a.insert("later")
				a.sync()
				a.equal("the newest restore", a.newest(0), append(slices.Clone(theirs), "later"))
				if a.count(multidb.EventAdopted) != 1 || a.count(multidb.EventResync) != 0 {
					t.Errorf("%d adopted, %d resyncs", a.count(multidb.EventAdopted), a.count(multidb.EventResync))
				}
				b.fenced()
				a.equal("the newest restore, after the other one's attempt", a.newest(0), append(slices.Clone(theirs), "later"))
			})
		}
	}
}

// dump is the tenant's content through the pool.
func dump(t *testing.T, b *ownBox) (all []string) {
	t.Helper()
	err := b.m.Do(t.Context(), "x", func(db *sql.DB) error {
		rs, err := db.QueryContext(t.Context(), "SELECT v FROM t ORDER BY k")
		if err != nil {
			return err
		}
		for rs.Next() {
			var v string
			if err := rs.Scan(&v); err != nil {
				return errors.Join(err, rs.Close())
			}
			all = append(all, v)
		}
		return errors.Join(rs.Err(), rs.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// well fails the test unless the tenant is.
func (b *ownBox) well() {
	b.t.Helper()
	if ok, worst := b.m.Healthy(time.Hour); !ok {
		b.t.Errorf("not well: %v", worst[0].Err)
	}
}

// fenced fails the test unless a commit of this one, which knows nothing of what
// another has written meanwhile, is refused. A nil ownBox is nobody.
func (b *ownBox) fenced() {
	if b == nil {
		return
	}
	b.t.Helper()
	b.insert("of the other")
	_, err := b.m.Sync(b.t.Context(), "x")
	isFenced(b.t, err)
}

// stop2 ends a Manager that has a fenced tenant, which it names.
func (b *ownBox) stop2() {
	b.t.Helper()
	if err := (&fleet{m: b.m}).close(); err != nil && !errors.Is(err, multidb.ErrFenced) {
		b.t.Error(err)
	}
}

func equalFiles(a, b map[string][32]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, sum := range a {
		if other, ok := b[name]; !ok || other != sum {
			return false
		}
	}
	return true
}

func TestATenantIsHandedOverThereAndBackInAFewRequestsAndNoWaiting(t *testing.T) {
	t.Parallel()
	replica := multidbtest.NewReplica()
	boxes := []*ownBox{newBox(t, replica), newBox(t, replica)}
	for _, b := range boxes {
		// Nothing that happens in this test waits for a timer.
		b.start(onOpen, multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour),
			multidb.WithScanInterval(time.Hour), multidb.WithWatch(false))
	}
	const times = 20
	var want []string
	commit := func(b *ownBox, v string) {
		b.insert(v)
		want = append(want, v)
	}
	for i := range times {
		before := replica.RequestStats().Total()
		for _, b := range boxes {
			commit(b, fmt.Sprint(i, " first"))
			if i%2 == 0 {
				b.sync()
			}
			commit(b, fmt.Sprint(i, " last"))
			if err := b.m.HandOver(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			if st, err := b.m.Status("x"); err != nil || st.Leased || st.Err != nil || st.Lag != 0 {
				t.Fatalf("after the hand-over: %+v, %v", st, err)
			}
		}
		// 20 or so each way, one after the other, of 20 ms each.
		if n := replica.RequestStats().Total() - before; n > 60 {
			t.Errorf("hand-over %d: %d requests there and back", i, n)
		}
	}
	for i, b := range boxes {
		b.equal(fmt.Sprint("machine ", i), dump(t, b), want)
		if n := b.count(multidb.EventFenced) + b.count(multidb.EventResync); n != 0 {
			t.Errorf("machine %d: %d times fenced or resynced", i, n)
		}
		if n := b.count(multidb.EventAdopted); n < times-1 {
			t.Errorf("machine %d: brought up to date %d times", i, n)
		}
	}
	boxes[0].equal("the newest restore", boxes[0].newest(0), want)
}

func TestAHandOverWaitsForLeasesAndLeavesAloneWhatAnotherHas(t *testing.T) {
	replica := multidbtest.NewReplica()
	a, b := newBox(t, replica), newBox(t, replica)
	a.start(onOpen)
	a.insert("a")
	h, err := a.m.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	bounded, cancel := contextWithTimeout(t, 100*time.Millisecond)
	defer cancel()
	if err := a.m.HandOver(bounded, "x"); !errors.Is(err, bounded.Err()) || err == nil {
		t.Fatalf("while it is leased: %v", err)
	}
	if _, err := h.DB().Exec("INSERT INTO t(v) VALUES('by a lease')"); err != nil {
		t.Fatal(err)
	}
	h.Release()
	if err := a.m.HandOver(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	b.start(onOpen)
	b.insert("b")
	b.sync()
	// All of a machine are handed over, though some went before and lag by now.
	if err := a.m.HandOver(t.Context(), "x"); err != nil {
		t.Errorf("of one that another has: %v", err)
	}
	a.well()
	a.equal("what the first one has when it is used again", dump(t, a), []string{"a", "by a lease", "b"})
	b.insert("b again")
	b.sync()
	b.equal("the newest restore", b.newest(0), []string{"a", "by a lease", "b", "b again"})
	if _, err := a.m.Status("y"); !errors.Is(err, multidb.ErrNotFound) || !errors.Is(a.m.HandOver(t.Context(), "y"), multidb.ErrNotFound) {
		t.Error("a tenant that nobody knows was handed over")
	}
}
