package multidb_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(hydrateChild); root != "" {
		acquireAndStall(root)
	}
	if root := os.Getenv(migrateChild); root != "" {
		migrateAndStall(root)
	}
	goleak.VerifyTestMain(m)
}

// fleet is a Manager over a tree like the demo's.
type fleet struct {
	t      *testing.T
	root   string
	m      *multidb.Manager
	events *eventLog
}

type eventLog struct {
	mu   sync.Mutex
	all  []multidb.Event
	more chan struct{}
}

func newEventLog() *eventLog { return &eventLog{more: make(chan struct{})} }

func (l *eventLog) observe(ev multidb.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, ev)
	close(l.more)
	l.more = make(chan struct{})
}

func (l *eventLog) has(typ multidb.EventType) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(ev multidb.Event) bool { return ev.Type == typ })
}

func (l *eventLog) count(match func(multidb.Event) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, ev := range l.all {
		if match(ev) {
			n++
		}
	}
	return n
}

// wait returns the first event that matches, now or later.
func (l *eventLog) wait(t *testing.T, what string, match func(multidb.Event) bool) multidb.Event {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for seen := 0; ; {
		l.mu.Lock()
		for ; seen < len(l.all); seen++ {
			if match(l.all[seen]) {
				defer l.mu.Unlock()
				return l.all[seen]
			}
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("no event: %s", what)
		}
	}
}

func newTree(t testing.TB, projects, dbs int) string {
	t.Helper()
	return newTreeIn(t, t.TempDir(), projects, dbs)
}

// newTreeIn makes the tree in a directory, which it returns.
func newTreeIn(t testing.TB, root string, projects, dbs int) string {
	t.Helper()
	template := filepath.Join(t.TempDir(), "template.db")
	makeDB(t, template, 3)
	b, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	for p := range projects {
		dir := filepath.Join(root, fmt.Sprintf("project%d/databases", p))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for d := range dbs {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("db%d.db", d)), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func makeDB(t testing.TB, path string, rows int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// Nobody needs it after a power failure, and an fsync for each row takes its time.
	for _, q := range []string{"PRAGMA synchronous=off", "PRAGMA journal_mode=wal", "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rows {
		if _, err := db.Exec("INSERT INTO t(v) VALUES(?)", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func pattern(root string) string {
	return filepath.Join(root, "{{project}}/databases/{{database}}.db")
}

func start(t *testing.T, root string, opts ...multidb.Option) *fleet {
	t.Helper()
	f := &fleet{t: t, root: root, events: newEventLog()}
	opts = append([]multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(pattern(root))),
		multidb.WithSyncInterval(20 * time.Millisecond),
		multidb.WithColdSyncInterval(50 * time.Millisecond),
		multidb.WithScanInterval(50 * time.Millisecond),
		multidb.WithObserver(f.events.observe),
	}, opts...)
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.m = m
	t.Cleanup(func() { _ = f.close() })
	return f
}

func (f *fleet) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return f.m.Close(ctx)
}

func (f *fleet) insert(id multidb.ID, v string) {
	f.t.Helper()
	err := f.m.Do(f.t.Context(), id, func(db *sql.DB) error {
		_, err := db.Exec("INSERT INTO t(v) VALUES(?)", v)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) sync(id multidb.ID) multidb.Pos {
	f.t.Helper()
	pos, err := f.m.Sync(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return pos
}

func (f *fleet) restored(id multidb.ID, opt multidb.RestoreOptions) []string {
	f.t.Helper()
	if opt.OutputPath == "" {
		opt.OutputPath = filepath.Join(f.t.TempDir(), "out.db")
	}
	if err := f.m.Restore(f.t.Context(), id, opt); err != nil {
		f.t.Fatal(err)
	}
	return rows(f.t, opt.OutputPath)
}

func rows(t *testing.T, path string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rs, err := db.Query("SELECT v FROM t ORDER BY k")
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	var out []string
	for rs.Next() {
		var s string
		if err := rs.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func TestAWriteThroughThePoolIsRestoredAfterSync(t *testing.T) {
	f := start(t, newTree(t, 2, 2), multidb.WithReplica(multidbtest.NewReplica()))
	f.insert("project0/db1", "hello")
	f.sync("project0/db1")
	if got := fmt.Sprint(f.restored("project0/db1", multidb.RestoreOptions{})); got != "[0 1 2 hello]" {
		t.Errorf("restored %v", got)
	}
	f.sync("project1/db0")
	if got := fmt.Sprint(f.restored("project1/db0", multidb.RestoreOptions{})); got != "[0 1 2]" {
		t.Errorf("restored %v", got)
	}
}

func TestADatabaseThatNobodyHasYetIsCreatedByAcquire(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT)")
			return err
		}))
	f.insert("new/tenant", "first")
	f.sync("new/tenant")
	if got := fmt.Sprint(f.restored("new/tenant", multidb.RestoreOptions{})); got != "[first]" {
		t.Errorf("restored %v", got)
	}
	if _, err := f.m.Acquire(t.Context(), "../x"); !errors.Is(err, multidb.ErrNotFound) || !strings.Contains(err.Error(), "no pattern makes") {
		t.Errorf("an ID that no pattern allows: %v", err)
	}
}

func TestCloseShipsWhatIsLeftAndTheNextStartGoesOn(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 3)
	f := start(t, root, multidb.WithReplica(rep), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
	for i := range 3 {
		f.insert(multidb.ID(fmt.Sprintf("project0/db%d", i)), "last")
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, multidb.WithReplica(rep))
	for i := range 3 {
		id := multidb.ID(fmt.Sprintf("project0/db%d", i))
		if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 last]" {
			t.Errorf("%s restored %v", id, got)
		}
		g.insert(id, "again")
		g.sync(id)
		if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 last again]" {
			t.Errorf("%s restored %v", id, got)
		}
	}
	if n := g.m.Stats().Resyncs; n != 0 {
		t.Errorf("%d resyncs after a clean close", n)
	}
}

// What another process wrote to a cold database is nobody's news until the next
// scan. Close looks at all of them.
func TestCloseShipsWhatAnotherProcessWroteSinceTheLastScan(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 2)
	opts := []multidb.Option{multidb.WithReplica(rep), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour)}
	for _, known := range []bool{false, true} { // by this process's own runs, or by the catalog
		f := start(t, root, opts...)
		if !known {
			f.sync("project0/db0")
			f.sync("project0/db1")
		}
		db, err := sql.Open("sqlite", filepath.Join(root, "project0/databases/db0.db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("INSERT INTO t(v) VALUES(?)", fmt.Sprint(known)); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out.db")
		if err := multidb.RestoreFrom(t.Context(), rep, multidb.Database{ID: "project0/db0", Path: "/project0/db0.db"}, multidb.RestoreOptions{OutputPath: out}); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, out); got[len(got)-1] != fmt.Sprint(known) {
			t.Errorf("restored %v", got)
		}
	}
}

// TestCloseMissesNoDatabaseThatHasAnotherNameNow: it was renamed, with its log or
// without, since the last scan. Red without renamed, and without its look at the log.
func TestCloseMissesNoDatabaseThatHasAnotherNameNow(t *testing.T) {
	for _, r := range []struct {
		from, to string
		id       multidb.ID
		want     error
	}{
		{"project0", "project1", "project1/db0", nil},
		{"project0/databases/db0.db", "project0/databases/db1.db", "project0/db1", multidb.ErrMissing},
	} {
		f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithWatch(false),
			multidb.WithScanInterval(time.Hour), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
		f.insert("project0/db0", "first")
		f.sync("project0/db0")
		if err := os.Rename(filepath.Join(f.root, r.from), filepath.Join(f.root, r.to)); err != nil {
			t.Fatal(err)
		}
		f.insert(r.id, "second")
		if err := f.close(); !errors.Is(err, r.want) {
			t.Errorf("%s renamed: close: %v", r.from, err)
		}
	}
}

// TestADirectoryRenamedWithTheLogIsOpenedWhileItIsLeased by its old name. Red
// without the look at the log in claim (internal/opener/opener.go).
func TestADirectoryRenamedWithTheLogIsOpenedWhileItIsLeased(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithWatch(false),
		multidb.WithScanInterval(time.Hour), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
	f.insert("project0/db0", "x")
	h, err := f.m.Acquire(t.Context(), "project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if err := os.Rename(filepath.Join(f.root, "project0"), filepath.Join(f.root, "project1")); err != nil {
		t.Fatal(err)
	}
	f.insert("project1/db0", "y")
	h.Release()
	f.sync("project1/db0")
	if got := fmt.Sprint(f.restored("project1/db0", multidb.RestoreOptions{})); got != "[0 1 2 x y]" {
		t.Errorf("restored %v", got)
	}
}

// TestAFileRenamedWithoutItsLogIsNotOpenedWhileItIsLeased by its old name.
func TestAFileRenamedWithoutItsLogIsNotOpenedWhileItIsLeased(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithWatch(false),
		multidb.WithScanInterval(time.Hour), multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
	f.insert("project0/db0", "x")
	h, err := f.m.Acquire(t.Context(), "project0/db0")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	dir := filepath.Join(f.root, "project0/databases")
	if err := os.Rename(filepath.Join(dir, "db0.db"), filepath.Join(dir, "db1.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.m.Acquire(t.Context(), "project0/db1"); !errors.Is(err, multidb.ErrConflict) || !strings.Contains(err.Error(), "release that first") {
		t.Errorf("leased by its old name: %v", err)
	}
	h.Release()
	f.insert("project0/db1", "y")
	if err := f.close(); !errors.Is(err, multidb.ErrMissing) { // what is in the log of db0
		t.Errorf("close: %v", err)
	}
}

func TestAnIdleDatabaseGoesColdAndAWriteMakesItHotAgain(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithHotDuration(100*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	for i := range 3 {
		f.insert(id, fmt.Sprint("round", i))
		f.events.wait(t, "hot", nth(i+1, func(ev multidb.Event) bool {
			return ev.Type == multidb.EventTier && ev.To == multidb.Hot
		}))
		f.events.wait(t, "cold", nth(i+1, func(ev multidb.Event) bool {
			return ev.Type == multidb.EventTier && ev.To == multidb.Cold
		}))
		if fi, err := os.Stat(filepath.Join(f.root, "project0/databases/db0.db-wal")); err == nil && fi.Size() != 0 {
			t.Errorf("the WAL of a cold database has %d bytes", fi.Size())
		}
	}
	if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 round0 round1 round2]" {
		t.Errorf("restored %v", got)
	}
	if n := f.m.Stats().Resyncs; n != 0 {
		t.Errorf("%d resyncs, although every tier change was ours", n)
	}
}

// nth matches the n-th event that match takes.
func nth(n int, match func(multidb.Event) bool) func(multidb.Event) bool {
	return func(ev multidb.Event) bool {
		if match(ev) {
			n--
		}
		return n == 0
	}
}

func TestTheLoggerGetsNoLinePerSync(t *testing.T) {
	var buf syncBuffer
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithLogger(slog.New(slog.NewTextHandler(&buf, nil))))
	for range 20 {
		f.insert("project0/db0", "x")
		f.sync("project0/db0")
	}
	if n := bytes.Count(buf.Bytes(), []byte("\n")); n > 3 {
		t.Errorf("%d lines for 20 syncs:\n%s", n, buf.Bytes())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func TestWithoutAReplicaAWALIsStillKeptShort(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithCheckpointPages(50), multidb.WithHotDuration(200*time.Millisecond), multidb.WithPromotion(0, 0))
	const id = "project0/db0"
	wal := filepath.Join(f.root, "project0/databases/db0.db-wal")
	for range 300 {
		f.insert(id, "x")
	}
	f.events.wait(t, "cold", func(ev multidb.Event) bool { return ev.Type == multidb.EventTier && ev.To == multidb.Cold })
	if fi, err := os.Stat(wal); err == nil && fi.Size() > 0 {
		t.Errorf("the WAL of a cold database has %d bytes", fi.Size())
	}
	if n := len(rows(t, filepath.Join(f.root, "project0/databases/db0.db"))); n != 303 {
		t.Errorf("%d rows", n)
	}
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, multidb.ErrNoReplica) {
		t.Errorf("sync: %v", err)
	}
}

func TestAWALThatTheReplicaDoesNotTakeStaysWithinItsLimit(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxWALSize(1<<20))
	const id = "project0/db0"
	f.insert(id, "before")
	f.sync(id)
	down := rep.Inject(multidbtest.Fault{Err: errors.New("down")})
	big := string(bytes.Repeat([]byte("x"), 2000))
	n := 0
	for !f.events.has(multidb.EventWALLimit) {
		for range 20 {
			f.insert(id, big)
			n++
		}
		_, _ = f.m.Sync(t.Context(), id) // tries at once, whatever the back-off
	}
	if fi, err := os.Stat(filepath.Join(f.root, "project0/databases/db0.db-wal")); err != nil || fi.Size() > 4<<20 {
		t.Errorf("the WAL: %v, %v", fi, err)
	}
	down.Clear()
	f.sync(id)
	if got := len(f.restored(id, multidb.RestoreOptions{})); got != 3+1+n {
		t.Errorf("restored %d rows of %d", got, 4+n)
	}
}

// TestAReplicaThatDoesNotAnswerKeepsNoWALOverItsLimitForLong lets the WAL pass
// its limit while one attempt waits: the end of that attempt is enough.
func TestAReplicaThatDoesNotAnswerKeepsNoWALOverItsLimitForLong(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithMaxWALSize(1<<20))
	const id = "project0/db0"
	f.insert(id, "before")
	f.sync(id)
	first := rep.Inject(multidbtest.Fault{Hang: true, Err: errors.New("no answer")})
	f.insert(id, "waiting")
	<-first.Hit()
	big, n := string(bytes.Repeat([]byte("x"), 2000)), 0
	for range 800 {
		f.insert(id, big)
		n++
	}
	second := rep.Inject(multidbtest.Fault{Hang: true}) // no other attempt comes to an end
	defer second.Clear()
	first.Clear()
	f.events.wait(t, "the WAL limit", func(ev multidb.Event) bool { return ev.Type == multidb.EventWALLimit })
	second.Clear()
	f.sync(id)
	if got := len(f.restored(id, multidb.RestoreOptions{})); got != 3+2+n {
		t.Errorf("restored %d rows of %d", got, 5+n)
	}
}

// TestADatabaseWhoseUpkeepHangsIsBehind lets a snapshot wait for ever: what is
// committed meanwhile is at no replica, and the status must not say that all is.
func TestADatabaseWhoseUpkeepHangsIsBehind(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithSnapshotInterval(time.Millisecond))
	const id = "project0/db0"
	hang := rep.Inject(multidbtest.Fault{Hang: true, Match: func(op multidbtest.Operation) bool { return op.Op == multidbtest.OpWrite && op.Level > 0 }})
	defer hang.Clear()
	f.insert(id, "before")
	f.sync(id)
	f.insert(id, "more")
	<-hang.Hit()
	f.insert(id, "waits")
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-ticker.C {
		st, err := f.m.Status(id)
		if err != nil {
			t.Fatal(err)
		}
		_, worst := f.m.Healthy(time.Second)
		if st.Lag > time.Second && len(worst) == 1 && worst[0].ID == id {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the status says lag %v, Healthy names %d", st.Lag, len(worst))
		}
	}
	hang.Clear()
	f.sync(id)
	if st, err := f.m.Status(id); err != nil || st.Lag > time.Second {
		t.Errorf("afterwards: lag %v, %v", st.Lag, err)
	}
}
