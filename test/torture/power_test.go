package torture

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// TestAPowerFailureLeavesAWholeHistory puts a database and its WAL back to what
// a power failure may leave of them, with every kind of state directory, starts
// a Manager over it, and restores every TXID from before and after. The replica
// follows the source; what Sync promised before stays restorable by its TXID (P1,
// P2, P3). What keeps it, seen red when removed: fr.Sum != st.Sum and s.unbroken in
// sameGeneration (ship/ship.go, rule R1), by which a WAL that was cut and written
// again is not taken for the one that was shipped. That Sync flushes the WAL is
// shown by TestWhatSyncPromisedOutlivesAPowerFailure of the root package.
func TestAPowerFailureLeavesAWholeHistory(t *testing.T) {
	withAndWithoutLog(t, powerFailures)
}

func powerFailures(t *testing.T, log bool) {
	var mu sync.Mutex
	cases, restores, kinds := 0, 0, map[string]int{}
	eachSeed(t, 2, 2, func(t *testing.T, seed uint64) {
		s := newStage(t, seed, log)
		s.record()
		for _, c := range s.cases() {
			if t.Failed() {
				break
			}
			s.play(c)
		}
		mu.Lock()
		defer mu.Unlock()
		cases += s.played
		restores += s.restored
		for k, v := range s.kinds {
			kinds[k] += v
		}
	})
	t.Logf("%d power failures, %d restores compared: %v; restored by, so far: %s", cases, restores, kinds, turnsTaken())
}

// stage is one database whose past is kept as images.
type stage struct {
	t        *testing.T
	rng      *rand.Rand
	root     string // of the database
	images   string
	place    place
	sealing  bool // checkpoints happened: the WAL may not be cut
	hist     history
	played   int
	restorer *restorer
	restored int
	kinds    map[string]int
}

func newStage(t *testing.T, seed uint64, log bool) *stage {
	dir := t.TempDir()
	s := &stage{t: t, rng: rand.New(rand.NewPCG(seed, 4)), root: filepath.Join(dir, "data"),
		images: filepath.Join(dir, "images"), place: place{dir: filepath.Join(dir, "replica"), log: log},
		sealing: seed%2 == 1, kinds: map[string]int{}}
	for _, d := range []string{s.root, s.images} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.restorer = newRestorer(t, s.place, "one")
	return s
}

func (s *stage) path() string  { return filepath.Join(s.root, "one.db") }
func (s *stage) state() string { return filepath.Join(s.root, ".multidb") }

func (s *stage) start() *multidb.Manager {
	opts := fast(s.root, s.place.factory(s.t), func(multidb.Event) {})
	if !s.sealing {
		// Nor is one to come of the last connection's close: SQLite has flushed
		// what it checkpoints, and a power failure cannot cut that.
		opts = append(opts, multidb.WithCheckpointPages(1<<20), multidb.WithHotDuration(time.Hour), multidb.WithIdleTimeout(time.Hour))
	}
	if s.place.log {
		// An image is no image if objects are deleted while it is copied.
		opts = append(opts, multidb.WithFleetLog(multidb.FleetLogConfig{Path: logDir,
			UnpackInterval: 250 * time.Millisecond, UnpackSize: 200 << 10, LogRetention: time.Hour}))
	}
	m, err := multidb.New(opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := m.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return m
}

func closeManager(t testing.TB, m *multidb.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// shell copies in a process of its own: closing a descriptor of the database in
// this one would drop SQLite's locks.
func (s *stage) shell(args ...string) {
	s.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// scribble is a transaction of random rows.
func scribble(ctx context.Context, c querier, rng *rand.Rand) error {
	qs := []string{"BEGIN IMMEDIATE"}
	for range 1 + rng.IntN(5) {
		switch rng.IntN(5) {
		case 0:
			qs = append(qs, fmt.Sprintf("DELETE FROM t WHERE k %% 9 = %d", rng.IntN(9)))
		case 1:
			qs = append(qs, fmt.Sprintf("UPDATE t SET v = randomblob(%d) WHERE k %% 7 = %d", rng.IntN(900), rng.IntN(7)))
		default:
			qs = append(qs, fmt.Sprintf("INSERT INTO t(v) VALUES(randomblob(%d))", rng.IntN(4000)))
		}
	}
	for _, q := range append(qs, "COMMIT") {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// catalogPause is a little more than the catalog takes to write what it was told.
const catalogPause = 1300 * time.Millisecond

// record makes the past: a database, its replica, and images of both and of the
// state directory at some instants.
func (s *stage) record() {
	ctx := context.Background()
	db := foreignDB(s.t, s.path())
	for _, q := range []string{fmt.Sprintf("PRAGMA page_size = %d", pick(s.rng, 512, 1024, 4096)),
		"PRAGMA journal_mode = wal", "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)"} {
		if _, err := db.Exec(q); err != nil {
			s.t.Fatal(err)
		}
	}
	s.note(db)
	if err := db.Close(); err != nil {
		s.t.Fatal(err)
	}
	m := s.start()
	defer closeManager(s.t, m)
	for i := range 30 {
		if i == 27 && s.rng.IntN(2) == 0 {
			// The catalog knows all of it, so that its word counts.
			s.sync(m)
			pause(catalogPause)
		}
		err := m.Do(ctx, oneID, func(db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if i%10 != 7 {
				if err := scribble(ctx, c, s.rng); err != nil {
					return err
				}
				s.note(c)
				return nil
			}
			if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil { // no checkpoint meanwhile
				return err
			}
			s.image(fmt.Sprint(i / 10))
			_, err = c.ExecContext(ctx, "ROLLBACK")
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if s.rng.IntN(3) == 0 {
			s.sync(m)
		}
	}
}

func (s *stage) note(c querier) {
	state, err := contentHash(context.Background(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.hist.commit(state)
}

func (s *stage) sync(m *multidb.Manager) {
	at := s.hist.at()
	pos, err := m.Sync(context.Background(), oneID)
	if err != nil {
		s.t.Errorf("sync: %v", err)
		return
	}
	s.hist.synced(at, pos.TXID)
}

// image keeps all there is at this instant, and what was promised by then.
func (s *stage) image(name string) {
	dir := filepath.Join(s.images, name)
	s.shell("mkdir", "-p", dir)
	s.shell("cp", "-p", s.path(), s.path()+"-wal", dir)
	s.shell("cp", "-rp", s.state(), filepath.Join(dir, "state"))
	s.shell("mkdir", "-p", s.place.dir)
	if err := copyReplica(s.place.dir, filepath.Join(dir, "replica")); err != nil {
		s.t.Fatal(err)
	}
}

// copyReplica copies what is published in a file replica, with its time stamps.
func copyReplica(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, ".tmp") {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return ignoreMissing(err)
		}
		fi, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		if err := os.WriteFile(filepath.Join(to, rel), b, 0o644); err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, rel), fi.ModTime(), fi.ModTime())
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// failure is one power failure: which images are found after it.
type failure struct {
	kind    string
	db      string // image of the database and its WAL
	state   string // image of the state directory; empty: lost
	replica string // image of the replica: the newest
	wal     func(wal []byte) []byte
	rename  bool // the file is another one, as after a restore from a backup
	oldTime bool // with the time stamps it had
	writes  int  // transactions before the Manager starts
}

// cases are the failures to play: the newest replica with every older database
// and every state directory, and the newest database with its WAL damaged.
func (s *stage) cases() []failure {
	var all []failure
	for _, db := range []string{"0", "1", "2"} {
		for _, state := range []string{"0", "2", "", "end"} {
			all = append(all, failure{kind: "old image", db: db, state: state, replica: "2",
				rename: s.rng.IntN(2) == 0, oldTime: s.rng.IntN(2) == 0, writes: s.rng.IntN(4)})
		}
	}
	all = append(all, failure{kind: "future replica", db: "1", state: "1", replica: "end"},
		failure{kind: "past replica", db: "2", state: "2", replica: "0"},
		failure{kind: "empty replica", db: "2", state: "2"})
	if s.sealing {
		return all
	}
	main, err := os.ReadFile(filepath.Join(s.images, "2", "one.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	if first, err := os.ReadFile(filepath.Join(s.images, "0", "one.db")); err != nil || !bytes.Equal(first, main) {
		s.t.Fatalf("there was a checkpoint, so that the WAL must not be cut: %v", err)
	}
	wal, err := os.ReadFile(filepath.Join(s.images, "2", "one.db-wal"))
	if err != nil {
		s.t.Fatal(err)
	}
	frame := 24 + int(binary.BigEndian.Uint32(wal[8:]))
	frames := (len(wal) - 32) / frame
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:min(n, len(b))] } }
	step := 1
	if longForm(s.t) == 0 {
		step = max(1, frames/12)
	}
	for i := 0; i <= frames; i += step {
		all = append(all, failure{kind: "cut at a frame", db: "2", state: pick(s.rng, "2", "2", "1", ""), replica: "2",
			wal: cut(32 + i*frame), writes: s.rng.IntN(8)})
	}
	for range 8 {
		n := s.rng.IntN(len(wal) + 1)
		all = append(all, failure{kind: "cut anywhere", db: "2", state: pick(s.rng, "2", "2", "1", ""), replica: "2",
			wal: cut(n), writes: s.rng.IntN(4)})
		tail := s.rng.IntN(3*frame) + 1
		all = append(all, failure{kind: "garbled tail", db: "2", state: pick(s.rng, "2", "2", "1", ""), replica: "2",
			wal: func(b []byte) []byte {
				for i := max(0, len(b)-tail); i < len(b); i++ {
					b[i] = byte(i * 7)
				}
				return b
			}, writes: s.rng.IntN(4)})
	}
	return append(all, failure{kind: "no WAL", db: "2", state: "2", replica: "2", wal: func([]byte) []byte { return nil }, writes: 1})
}

// prepare puts the machine into the state after the failure.
func (s *stage) prepare(f failure) error {
	if _, err := os.Stat(filepath.Join(s.images, "end")); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(s.path() + "-wal"); errors.Is(err, os.ErrNotExist) {
			if err := os.WriteFile(s.path()+"-wal", nil, 0o644); err != nil {
				return err
			}
		}
		s.image("end") // what the clean close left
	}
	from := filepath.Join(s.images, f.db, "one.db")
	if f.rename {
		if err := os.Remove(s.path()); err != nil {
			return err
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(from + suffix)
		if err != nil {
			return err
		}
		if suffix == "-wal" && f.wal != nil {
			b = f.wal(b)
		}
		if suffix == "-wal" && b == nil {
			if err := os.Remove(s.path() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		// In place: the file is the same one, as after a power failure.
		if err := os.WriteFile(s.path()+suffix, b, 0o644); err != nil {
			return err
		}
		if f.oldTime {
			fi, err := os.Stat(from + suffix)
			if err != nil {
				return err
			}
			if err := os.Chtimes(s.path()+suffix, fi.ModTime(), fi.ModTime()); err != nil {
				return err
			}
		}
	}
	_ = os.Remove(s.path() + "-shm")
	s.shell("rm", "-rf", s.state(), s.place.dir)
	if f.state != "" {
		s.shell("cp", "-rp", filepath.Join(s.images, f.state, "state"), s.state())
	}
	if f.replica != "" {
		s.shell("cp", "-rp", filepath.Join(s.images, f.replica, "replica"), s.place.dir)
	} else { // emptied, but the directory that it was
		s.shell("mkdir", "-p", s.place.dir)
		s.shell("cp", "-p", filepath.Join(s.images, "2", "replica", ".multidb-replica"), s.place.dir)
	}
	return nil
}

// play is one failure and what comes after it.
func (s *stage) play(f failure) {
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s: database %s, state %q, replica %q, rename %v, old time %v, %d writes before the start",
				f.kind, f.db, f.state, f.replica, f.rename, f.oldTime, f.writes)
		}
	}()
	if err := s.prepare(f); err != nil {
		s.t.Error(err)
		return
	}
	past, end := &s.hist, multidb.TXID(0) // of the replica
	now := stage{t: s.t, rng: s.rng, root: s.root, place: s.place, sealing: s.sealing}
	now.hist.states = append([]string(nil), past.states...)
	now.hist.floors = map[multidb.TXID]int{}
	if f.replica == "2" || f.replica == "end" {
		files, err := listFiles(s.place.client(s.t, "one"))
		if err != nil {
			s.t.Error(err)
			return
		}
		for _, f := range files {
			end = max(end, f.MaxTXID)
		}
		for txid, at := range past.floors {
			if txid <= end {
				now.hist.floors[txid] = at
			}
		}
	}
	ctx := context.Background()
	db := foreignDB(s.t, s.path())
	if err := integrity(db); err != nil {
		s.t.Errorf("the image is no state that SQLite leaves: %v", err)
		return
	}
	now.note(db)
	for range f.writes {
		if _, err := db.Exec("PRAGMA wal_autocheckpoint = 0"); err != nil {
			s.t.Fatal(err)
		}
		if err := scribble(ctx, db, s.rng); err != nil {
			s.t.Error(err)
			return
		}
		now.note(db)
	}
	if f.writes > 0 && s.rng.IntN(2) == 0 {
		// The writer dies too: its WAL is found as it is.
		s.shell("cp", "-p", s.path(), s.path()+"-wal", s.images)
		if err := db.Close(); err != nil {
			s.t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(filepath.Join(s.images, "one.db"+suffix))
			if err != nil {
				s.t.Fatal(err)
			}
			if err := os.WriteFile(s.path()+suffix, b, 0o644); err != nil {
				s.t.Fatal(err)
			}
		}
	} else if err := db.Close(); err != nil {
		s.t.Fatal(err)
	}

	m := now.start()
	for range 1 + s.rng.IntN(3) {
		err := m.Do(ctx, oneID, func(db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := scribble(ctx, c, s.rng); err != nil {
				return err
			}
			now.note(c)
			return nil
		})
		if err != nil {
			s.t.Error(err)
		}
	}
	now.sync(m)
	last := now.hist.states[len(now.hist.states)-1]
	// A floor promises a state of the past at its own TXID, not after the failure.
	floors := now.hist.floors
	now.hist.floors = map[multidb.TXID]int{}
	n := now.hist.check(s.t, s.restorer, 0, &last)
	closeManager(s.t, m)
	for txid, at := range floors {
		if at < len(past.states) && past.floors[txid] == at {
			s.checkPromise(txid, end, at)
		}
	}
	s.restored += n
	s.played++
	s.kinds[f.kind]++
}

// checkPromise is P1 after the source has gone back: the TXID that Sync
// returned has what it promised. Of a log that was taken over only the ends of the files
// stay that it was unpacked to, so there it may be a later one, up to where it ended.
func (s *stage) checkPromise(txid, end multidb.TXID, at int) {
	if s.place.log {
		files, err := s.restorer.files()
		if err != nil {
			s.t.Error(err)
			return
		}
		next := end
		for _, f := range files {
			if f.MaxTXID >= txid {
				next = min(next, f.MaxTXID)
			}
		}
		txid = next
	}
	path, err := s.restorer.restore(s.images, txid)
	if err != nil {
		s.t.Errorf("what Sync promised: %v", err)
		return
	}
	defer os.RemoveAll(filepath.Dir(path))
	got, err := fileHash(s.t, path)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.restored++
	for i := at; i < len(s.hist.states); i++ {
		if s.hist.states[i] == got {
			return
		}
	}
	s.t.Errorf("Sync promised commit %d at TXID %s, which restores to something else: %s", at, txid, strings.TrimSpace(got))
}
