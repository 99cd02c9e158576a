package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// TestOfTwoManagersOnOnePrefixOneGoesOn lets two Managers with the default takeover
// policy write to one prefix: each with a file of its own, one with a restored file,
// or with a copy of the other's file and state directory; with lost answers too.
// P4: exactly one goes on, the other says ErrFenced, and the history never alternates.
// I0: what a Sync of either side promised is in the newest restore. A file of its own
// never wins over a backup that was there before. The lines that matter most are
// a.sum == sum in adopt (ship/write.go) and the cases of Verify (ship/verify.go): a
// file that stands at our TXID is ours only if we wrote those bytes, and a copied
// state directory's other user is no late write of our own.
func TestOfTwoManagersOnOnePrefixOneGoesOn(t *testing.T) {
	var mu sync.Mutex
	races, restored, kinds := 0, 0, map[string]int{}
	withAndWithoutLog(t, func(t *testing.T, log bool) {
		eachSeed(t, 10, 2, func(t *testing.T, seed uint64) {
			d := newDuel(t, seed)
			if d.place.log = log; log && !d.shared() {
				return // who has a file of its own takes over the log, and may not write: neither goes on
			}
			d.run()
			mu.Lock()
			defer mu.Unlock()
			races++
			restored += d.restored
			kinds[d.kind()]++
		})
	})
	t.Logf("%d races, %d restores compared: %v", races, restored, kinds)
}

// duel is two Managers and their one prefix.
type duel struct {
	t        *testing.T
	rng      *rand.Rand
	place    place
	lost     bool // answers of the store
	how      string
	sides    [2]*side
	restored int
}

// How the second side begins.
const (
	together = "at once, with a file of its own"
	own      = "late, with a file of its own"
	ownOpen  = "late, with a file of its own, and WithRestoreOnOpen"
	restores = "late, without a file, and WithRestoreOnOpen"
	clone    = "late, with a copy of the first's file and state directory"
)

// late: the second begins when the first has a history.
func (d *duel) late() bool { return d.how != together }

// shared: both have the history of the first, up to where the second began.
func (d *duel) shared() bool { return d.how == restores || d.how == clone }

func (d *duel) kind() string {
	return fmt.Sprintf("%s, lost answers %v", d.how, d.lost)
}

type side struct {
	root   string
	m      *multidb.Manager
	events *events
	l      ledger
	n      int
	fenced bool
	marks  int // commits that say which side made them
	synced int // of them, those before a Sync that returned nil
}

func newDuel(t *testing.T, seed uint64) *duel {
	d := &duel{t: t, rng: rand.New(rand.NewPCG(seed, 7)), place: filePlace(t)}
	kind := seed % 10
	d.how = []string{together, own, ownOpen, restores, clone}[kind%5]
	if kind >= 5 {
		d.lost = true
		s3 := newFakeS3(t)
		d.place = s3.place
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(seed, 8))
		f := faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			mu.Lock()
			lose := rng.IntN(3) == 0
			mu.Unlock()
			if lose && r.Method == http.MethodPut {
				next.ServeHTTP(httptest.NewRecorder(), r)
				reset(w)
				return
			}
			next.ServeHTTP(w, r)
		})
		s3.fault.Store(&f)
	}
	for i := range d.sides {
		d.sides[i] = &side{root: filepath.Join(t.TempDir(), fmt.Sprint("side", i)), events: &events{}, l: ledger{seed*2 + uint64(i)}}
	}
	return d
}

// open starts a side with what a user has by default: no local file wins by itself.
func (d *duel) open(s *side) {
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		d.t.Fatal(err)
	}
	opts := append(d.place.logged(fast(s.root, d.place.factory(d.t), s.events.observe)...),
		multidb.WithHotDuration(time.Hour), multidb.WithTakeover(multidb.TakeoverNever))
	if s == d.sides[1] && (d.how == ownOpen || d.how == restores) {
		opts = append(opts, multidb.WithRestoreOnOpen())
	}
	m, err := multidb.New(opts...)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := m.Start(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	s.m = m
}

func (d *duel) close(s *side) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := s.m.Close(ctx)
	if err != nil && !(s.fenced && errors.Is(err, multidb.ErrFenced)) {
		d.t.Errorf("close: %v", err)
	}
}

// forgetPaths leaves of a copied state directory the node's identity: on another
// machine the paths would be the same, here they cannot.
func (d *duel) forgetPaths(s *side) {
	db := foreignDB(d.t, filepath.Join(s.root, ".multidb", "catalog.db"))
	defer db.Close()
	if _, err := db.Exec("DELETE FROM databases"); err != nil {
		d.t.Fatal(err)
	}
}

// round writes on one side, which must work whatever became of the prefix.
func (d *duel) round(s *side) {
	ctx := context.Background()
	err := s.m.Do(ctx, oneID, func(db *sql.DB) error { return d.write(ctx, s, db) })
	if err != nil {
		d.t.Errorf("a write failed: %v", err)
		return
	}
	if d.rng.IntN(3) == 0 {
		d.sync(s)
	}
}

// write makes the next transaction of the ledger, and one that says whose it is: the
// ledgers of a clone and its original are the same.
func (d *duel) write(ctx context.Context, s *side, db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := s.l.apply(ctx, c, s.n+1, true); err != nil {
		return err
	}
	s.n++
	if _, err := c.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS marks(side INT, n INT)"); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO marks VALUES(?, ?)", slices.Index(d.sides[:], s), s.marks+1); err != nil {
		return err
	}
	s.marks++
	return nil
}

// begin gives a side a file of its own before a Manager sees it: that would refuse
// to make one beside a backup.
func (d *duel) begin(s *side) {
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		d.t.Fatal(err)
	}
	db := foreignDB(d.t, filepath.Join(s.root, string(oneID)+".db"))
	defer db.Close()
	if err := d.write(context.Background(), s, db); err != nil {
		d.t.Fatal(err)
	}
}

// sync notes who is fenced and what is promised; no other refusal is for good.
func (d *duel) sync(s *side) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := s.m.Sync(ctx, oneID)
	switch {
	case errors.Is(err, multidb.ErrFenced):
		s.fenced = true
	case err != nil && !d.lost:
		d.t.Errorf("sync: %v", err)
	case err == nil && s.fenced:
		d.t.Error("Sync works for one that was fenced")
	case err == nil:
		s.synced = s.marks
	}
}

func (d *duel) run() {
	a, b := d.sides[0], d.sides[1]
	d.begin(a)
	if d.how != restores && d.how != clone {
		d.begin(b)
	}
	d.open(a)
	defer func() { d.close(a) }()
	if d.late() {
		for range 5 {
			d.round(a)
		}
		d.settle(a)
	}
	if d.how == clone {
		// A virtual machine is copied: database, state directory and all.
		d.close(a)
		if err := os.CopyFS(b.root, os.DirFS(a.root)); err != nil {
			d.t.Fatal(err)
		}
		d.forgetPaths(b)
		d.open(a)
	}
	if d.shared() {
		b.n, b.l = a.n, a.l
	}
	d.open(b)
	defer func() { d.close(b) }()
	if d.how == restores {
		d.round(b)
	}
	for range 25 {
		d.round(a)
		d.round(b)
	}
	eventually(d.t, 20*time.Second, func() string {
		d.sync(a)
		d.sync(b)
		if a.fenced == b.fenced && !(d.place.log && a.fenced) {
			return fmt.Sprintf("fenced: %v and %v", a.fenced, b.fenced)
		}
		return ""
	})
	if d.t.Failed() {
		return
	}
	if a.fenced && b.fenced { // the later took over the log, and may not write behind what the earlier had written
		d.check(a)
		return
	}
	winner, loser := a, b
	if a.fenced {
		winner, loser = b, a
	}
	if (d.how == own || d.how == ownOpen) && winner != a {
		d.t.Error("a file that has nothing to do with the backup won over its writer")
	}
	if st, err := loser.m.Status(oneID); err != nil || !errors.Is(st.Err, multidb.ErrFenced) {
		d.t.Errorf("the loser's status is %v, %v", st.Err, err)
	}
	if n := loser.events.count(multidb.EventFenced, oneID); n != 1 {
		d.t.Errorf("the loser was told %d times", n)
	}
	for range 3 {
		d.round(winner)
	}
	d.settle(winner)
	d.check(winner)
}

// settle syncs, through lost answers.
func (d *duel) settle(s *side) {
	eventually(d.t, 20*time.Second, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := s.m.Sync(ctx, oneID); err != nil {
			return err.Error()
		}
		s.synced = s.marks
		return ""
	})
}

// promised looks for every commit before a Sync that returned nil, of either side,
// in the newest restore.
func (d *duel) promised(path string) {
	db := openDB(d.t, path, "immutable=1")
	defer db.Close()
	for i, s := range d.sides {
		var n int
		if err := db.QueryRow("SELECT count(DISTINCT n) FROM marks WHERE side = ? AND n <= ?", i, s.synced).Scan(&n); err != nil {
			d.t.Error(err)
		} else if n != s.synced {
			d.t.Errorf("Sync promised side %d its first %d commits; the newest restore has %d of them", i, s.synced, n)
		}
	}
}

// check restores every TXID: the states of one, then of the other, and never
// back.
func (d *duel) check(winner *side) {
	client := d.place.client(d.t, "one")
	files, err := listFiles(client)
	if err != nil {
		d.t.Error(err)
		return
	}
	dir := d.t.TempDir()
	var owners []int
	last, back := [2]int{}, 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		path, err := restoreFile(client, dir, f.MaxTXID)
		if err != nil && d.place.log && i+1 < len(files) {
			if now, err := listFiles(d.place.client(d.t, "one")); err == nil && inside(now, f.MaxTXID) {
				continue // unpacked with others meanwhile
			}
		}
		if err != nil {
			d.t.Errorf("%v; %s", err, listing(files))
			return
		}
		d.restored++
		owner := -1
		for j, s := range d.sides {
			if n, err := s.l.verifyFile(d.t, path); err == nil && n > 0 {
				if n < last[j] {
					back++
				}
				if n < last[j] && !(d.shared() && back == 1) { // the copy goes on from where it was made
					d.t.Errorf("TXID %s is at transaction %d, one before it at %d", f.MaxTXID, n, last[j])
				}
				owner, last[j] = j, n
				break
			}
		}
		if owner < 0 {
			if n, err := winner.l.verifyFile(d.t, path); err != nil || n != 0 { // an empty database is anybody's
				d.t.Errorf("TXID %s is no state of either: %d, %v", f.MaxTXID, n, err)
			}
			continue
		}
		if len(owners) == 0 || owners[len(owners)-1] != owner {
			owners = append(owners, owner)
		}
		if i+1 == len(files) {
			d.promised(path)
		}
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			d.t.Error(err)
		}
	}
	if !d.shared() {
		slices.Sort(owners)
		if len(slices.Compact(slices.Clone(owners))) != len(owners) {
			d.t.Errorf("the history alternates: %v", owners)
		}
	}
	if i := slices.Index(d.sides[:], winner); !d.shared() && last[i] != winner.n {
		d.t.Errorf("the winner's newest state is %d, it wrote %d", last[i], winner.n)
	}
}
