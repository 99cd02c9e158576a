package client

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store/file"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store of files, and one process life with its log in it.
type world struct {
	t       *testing.T
	store   *file.Store
	objects *file.Objects
	log     *Log
	journal *journal.Journal
	memory  int64

	interval time.Duration // between objects; 0: 20 ms

	mu      sync.Mutex
	durable map[string]ltx.TXID
	changed chan struct{} // closed at each change of durable
}

func newWorld(t *testing.T) *world { return newWorldOf(t, 0) }

func newWorldOf(t *testing.T, memory int64) *world {
	t.Helper()
	w := &world{t: t, memory: memory, store: file.New(t.TempDir()), durable: map[string]ltx.TXID{}, changed: make(chan struct{})}
	var err error
	if w.objects, err = w.store.Objects("fleet"); err != nil {
		t.Fatal(err)
	}
	w.begin(1)
	t.Cleanup(func() { w.close() })
	return w
}

// begin begins a process life.
func (w *world) begin(n byte) {
	w.journal = journal.New(journal.Config{Store: w.objects, Life: format.ID{n}, Node: "test", Interval: cmp.Or(w.interval, 20*time.Millisecond), Soon: time.Millisecond})
	w.log = New(Config{Journal: w.journal, Objects: w.objects, MaxMemory: w.memory, Durable: func(prefix string, txid ltx.TXID, err error) {
		if err != nil {
			w.t.Errorf("%s to %s: %v", prefix, txid, err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.durable[prefix] = txid
		close(w.changed)
		w.changed = make(chan struct{})
	}})
}

func (w *world) close() {
	w.t.Helper()
	if err := w.journal.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
}

// await waits until a tenant is durable up to a transaction.
func (w *world) await(prefix string, txid ltx.TXID) {
	w.t.Helper()
	for {
		w.mu.Lock()
		got, changed := w.durable[prefix], w.changed
		w.mu.Unlock()
		if got >= txid {
			return
		}
		select {
		case <-changed:
		case <-w.t.Context().Done():
			w.t.Fatal("not durable")
		}
	}
}

// tenant is a database that is shipped through the log.
type tenant struct {
	w       *world
	prefix  string
	sql     *sql.DB
	db      ship.DB
	shipper *ship.Shipper
	rows    int
}

func (w *world) tenant(prefix string) *tenant {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "t.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	db, err := sqlitedb.Open(w.t.Context(), path, sqlitedb.Options{BusyTimeout: time.Second, MaxConns: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	te := &tenant{w: w, prefix: prefix, sql: db, shipper: ship.New(ship.Config{SpoolDir: w.t.TempDir(), Node: 1, Session: 1})}
	te.db = ship.DB{Path: path, Fenced: true, Client: w.log.Client(prefix, prefix, w.store.Client(prefix))}
	te.exec("PRAGMA synchronous = OFF") // no test here stops the machine
	te.exec("CREATE TABLE t(v)")
	return te
}

func (te *tenant) exec(query string, args ...any) {
	te.w.t.Helper()
	if _, err := te.sql.ExecContext(te.w.t.Context(), query, args...); err != nil {
		te.w.t.Fatal(err)
	}
}

// commit writes a row and ships it.
func (te *tenant) commit() {
	te.w.t.Helper()
	te.rows++
	te.exec("INSERT INTO t VALUES (randomblob(300))")
	if _, err := te.shipper.Step(te.w.t.Context(), &te.db); err != nil {
		te.w.t.Fatal(err)
	}
}

// restored is how many rows a restore through a client has.
func (w *world) restored(client litestream.ReplicaClient, txid ltx.TXID) int {
	w.t.Helper()
	return w.rows(client, restore.Options{TXID: txid})
}

// restoredAt is how many rows a restore to a time has.
func (w *world) restoredAt(client litestream.ReplicaClient, at time.Time) int {
	w.t.Helper()
	return w.rows(client, restore.Options{Timestamp: at})
}

func (w *world) rows(client litestream.ReplicaClient, opt restore.Options) int {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), fmt.Sprintf("restored-%d.db", time.Now().UnixNano()))
	opt.Output = out
	if err := restore.Newest(w.t.Context(), client, opt); err != nil {
		w.t.Fatal(err)
	}
	db, err := sqlitedb.Open(w.t.Context(), out, sqlitedb.Options{BusyTimeout: time.Second, MaxConns: 1, DropWAL: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	var n int
	if err := db.QueryRowContext(w.t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// ranges are the transactions of files.
func ranges(infos []*ltx.FileInfo) string {
	var all []string
	for _, f := range infos {
		all = append(all, fmt.Sprintf("%d-%d", f.MinTXID, f.MaxTXID))
	}
	return strings.Join(all, " ")
}

func TestATenantIsShippedThroughTheLogAndUnpackedAsOneFile(t *testing.T) {
	for name, memory := range map[string]int64{"from memory": 0, "from the objects": 1} {
		t.Run(name, func(t *testing.T) { shipAndUnpack(t, newWorldOf(t, memory)) })
	}
}

func shipAndUnpack(t *testing.T, w *world) {
	t.Helper()
	te := w.tenant("litestream/a")
	for range 30 {
		te.commit()
	}
	last := te.db.State.TXID
	client := te.db.Client.(*Client)
	if s := w.log.Stats(); s.Tails != 1 || s.TailBytes != w.log.Tail(te.prefix).Bytes {
		t.Errorf("%+v", s)
	}
	if err := client.Await(t.Context(), last); err != nil || client.Durable() != last {
		t.Errorf("durable up to %s of %s: %v", client.Durable(), last, err)
	}
	w.await(te.prefix, last)
	prefix := w.store.Client(te.prefix)
	if tail := w.log.Tail(te.prefix); tail.Files != 30 || tail.Bytes == 0 || !tail.Durable || tail.Min != 1 || tail.Max != last {
		t.Errorf("the tail is %+v", tail)
	}
	if n := w.restored(te.db.Client, 0); n != te.rows {
		t.Errorf("log and prefix together have %d rows of %d", n, te.rows)
	}
	// What is in memory may have been merged over it: the past is read from the objects.
	history, err := ReadTenant(t.Context(), w.objects, te.prefix, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.restored(history.Client("", te.prefix, prefix), last-10); n != te.rows-10 {
		t.Errorf("ten transactions ago there were %d rows of %d", n, te.rows-10)
	}
	// The first has the name that a writer without the log would take, and the last is one
	// that stock litestream goes on from.
	infos, err := w.log.Unpack(t.Context(), te.prefix, prefix, true)
	if err != nil || ranges(infos) != fmt.Sprintf("1-1 2-%d %[2]d-%[2]d", last-1, last) {
		t.Fatalf("unpacked %s, %v", ranges(infos), err)
	}
	if tail := w.log.Tail(te.prefix); tail.Files != 0 {
		t.Errorf("%d files are left in the tail", tail.Files)
	}
	if n := w.restored(prefix, 0); n != te.rows {
		t.Errorf("the prefix alone has %d rows of %d", n, te.rows)
	}
	s := w.log.Stats()
	if s.Epoch != 1 || s.Files != 30 || s.Objects == 0 || s.Bytes == 0 || s.Pending != 0 || s.Tails != 0 || s.TailBytes != 0 || s.Unpacks != 1 || s.Fenced {
		t.Errorf("%+v", s)
	}
	// It goes on behind what was unpacked.
	for range 5 {
		te.commit()
	}
	w.await(te.prefix, te.db.State.TXID)
	if n := w.restored(te.db.Client, 0); n != te.rows {
		t.Errorf("after more commits: %d rows of %d", n, te.rows)
	}
	if infos, err := w.log.Unpack(t.Context(), te.prefix, prefix, true); err != nil || ranges(infos) != fmt.Sprintf("%d-%d %[3]d-%[3]d", last+1, last+4, last+5) {
		t.Errorf("unpacked %s, %v", ranges(infos), err)
	}
	if n := w.restored(prefix, 0); n != te.rows {
		t.Errorf("the prefix alone has %d rows of %d", n, te.rows)
	}
}

// TestAnybodyRestoresFromTheStoreAlone, log and prefix together, while the owner goes on.
func TestAnybodyRestoresFromTheStoreAlone(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	for round := range 3 {
		for range 5 {
			te.commit()
		}
		w.await(te.prefix, te.db.State.TXID)
		reader, err := Read(t.Context(), w.objects)
		if err != nil {
			t.Fatal(err)
		}
		client := reader.Client("", te.prefix, w.store.Client(te.prefix))
		if n := w.restored(client, 0); n != te.rows {
			t.Errorf("round %d: %d rows of %d", round, n, te.rows)
		}
		if n := w.restored(client, te.db.State.TXID-2); n != te.rows-2 {
			t.Errorf("round %d: two transactions ago there were %d rows of %d", round, n, te.rows-2)
		}
		if round == 1 {
			if _, err := reader.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); err != nil {
				t.Fatal(err) // as the command does beside a running owner
			}
			if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
				t.Errorf("the prefix alone has %d rows of %d", n, te.rows)
			}
		}
	}
	if _, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); err != nil {
		t.Fatal(err)
	}
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
		t.Errorf("after the owner has unpacked too, the prefix alone has %d rows of %d", n, te.rows)
	}
}

// TestWhoTakesOverServesTheTail: a process is killed, and the next one reads its log.
func TestWhoTakesOverServesTheTail(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	other := w.tenant("litestream/b")
	for range 10 {
		te.commit()
		other.commit()
	}
	last := te.db.State.TXID
	w.await(te.prefix, last)
	w.await(other.prefix, other.db.State.TXID)
	if _, err := w.log.Unpack(t.Context(), other.prefix, w.store.Client(other.prefix), true); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.begin(2)
	if n := w.restored(w.log.Client(te.prefix, te.prefix, w.store.Client(te.prefix)), 0); n != te.rows {
		t.Errorf("%d rows of %d, from the log of the life before", n, te.rows)
	}
	for _, x := range []*tenant{te, other} {
		if _, err := w.log.Unpack(t.Context(), x.prefix, w.store.Client(x.prefix), true); err != nil {
			t.Fatal(err)
		}
		if n := w.restored(w.store.Client(x.prefix), 0); n != x.rows {
			t.Errorf("%s: the prefix alone has %d rows of %d", x.prefix, n, x.rows)
		}
		if tail := w.log.Tail(x.prefix); tail.Files != 0 {
			t.Errorf("%s: %d files are left in the tail", x.prefix, tail.Files)
		}
	}
	if err := w.log.FinishFormer(t.Context()); err != nil {
		t.Error(err)
	}
	var left []string
	for o, err := range w.objects.List(t.Context(), format.LogDir(1), "") {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, o.Name)
	}
	if len(left) != 1 || len(w.journal.Former()) != 0 {
		t.Errorf("of the former log there is still %q; its seal alone should be", left)
	}
}

// TestNothingIsUnpackedThatIsNotDurable (F5).
func TestNothingIsUnpackedThatIsNotDurable(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.commit()
	w.await(te.prefix, te.db.State.TXID)
	w.log.mu.Lock()
	w.log.tails[te.prefix][0].durable = false // as if it were still under way
	w.log.mu.Unlock()
	if info, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); info != nil || err != nil {
		t.Errorf("unpacked: %v, %v", info, err)
	}
	if files := w.log.Tail(te.prefix).Files; files != 1 {
		t.Errorf("%d files are in the tail", files)
	}
}
