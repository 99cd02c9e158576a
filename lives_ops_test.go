package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/multidbtest"
)

// usable reports whether a machine can be asked something.
func (b *box) usable() bool { return b.m != nil && !b.gate.isAsleep() }

// operate does one random thing.
func (w *lives) operate() {
	b := w.boxes[w.rng.IntN(len(w.boxes))]
	k := w.rng.IntN(100)
	if w.limits.unknown && k >= 76 && k < 95 { // what must not happen to such a fleet
		k -= 60
	}
	switch {
	case k < 28:
		_ = b.write(w.rng.IntN(3) == 0)
	case k < 35:
		b.syncLater()
	case k < 38:
		b.writeForeign()
	case k < 45:
		b.fallAsleep()
	case k < 55:
		b.setTrap()
	case k < 63:
		b.startOrClose()
	case k < 67:
		b.die()
	case k < 69:
		if b.m != nil {
			b.gate.loseAnswers([]int{0, 0, 10, 50}[w.rng.IntN(4)])
		}
	case k < 71:
		b.keepCopies()
	case k < 73:
		w.pass(w.upTo(3 * w.limits.grace))
	case k < 74:
		b.loseState()
	case k < 75:
		b.loseAll()
	case k < 76:
		b.operator()
	case k < 81:
		b.cloneTo(w.boxes[w.rng.IntN(len(w.boxes))])
	case k < 88:
		w.succession(b, w.boxes[w.rng.IntN(len(w.boxes))])
	case k < 92:
		w.handOver(b, w.boxes[w.rng.IntN(len(w.boxes))])
	case k < 93:
		b.putOldFile()
	case k < 94:
		if b.usable() {
			_ = b.adopt()
		}
	case k < 95:
		b.takeOver()
	default:
		b.operator()
	}
}

// acquire opens the file for a moment and sees what it holds before fn.
func (b *box) acquire(fn func(*sql.DB)) bool {
	w := b.w
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	h, err := b.m.Acquire(ctx, sharedID)
	if err != nil {
		b.log("acquire: %v", err)
		b.unsure = true
		return false
	}
	defer h.Release()
	b.lease = h
	c, err := readContent(w.t.Context(), h.DB())
	if err != nil {
		w.fail("m%d: read: %v", b.i, err)
	}
	if b.exists && c.n != b.content.n {
		b.log("its file is another: n %d, was %d", c.n, b.content.n)
	}
	b.saw(c, b.chosen)
	fn(h.DB())
	w.stamps.touch(w.t, b.path+"-wal")
	return true
}

// write commits a few times, and waits for durability or not.
func (b *box) write(wait bool) error {
	w := b.w
	if !b.usable() {
		return nil
	}
	if w.rng.IntN(6) == 0 {
		b.keepCopies()
	}
	if !b.acquire(func(db *sql.DB) {
		for range 1 + w.rng.IntN(4) {
			c, err := w.commit(w.t.Context(), db)
			if err != nil {
				w.fail("m%d: commit: %v", b.i, err)
			}
			b.log("commits %d", c.n)
			b.saw(c, false)
		}
	}) || !wait {
		return nil
	}
	return b.syncNow(10 * time.Minute)
}

func (b *box) syncNow(d time.Duration) error {
	ctx, cancel := context.WithTimeout(b.w.t.Context(), d)
	defer cancel()
	c := b.content
	pos, err := b.m.Sync(ctx, sharedID)
	b.log("sync of n %d: txid %d, %v", c.n, pos.TXID, err)
	b.synced(c, err, "Sync")
	return err
}

// synced is told what became of a Sync.
func (b *box) synced(c content, err error, how string) {
	switch {
	case err == nil:
		b.promise(c, how)
	case errors.Is(err, multidb.ErrFenced):
		b.fenced = true
	}
}

// syncLater goes on beside whatever comes next.
func (b *box) syncLater() {
	w := b.w
	if !b.usable() || !b.exists || b.unsure {
		return
	}
	d := w.upTo(5 * time.Hour)
	c, m, g := b.content, b.m, b.gate
	b.log("sync of n %d within %v, not waited for", c.n, d)
	w.joined.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		pos, err := m.Sync(ctx, sharedID)
		if g.isDead() {
			return // nobody hears it
		}
		b.log("sync of n %d, not waited for: txid %d, %v", c.n, pos.TXID, err)
		w.later(func() {
			if err == nil {
				b.promise(c, "Sync not waited for")
			} else if errors.Is(err, multidb.ErrFenced) && b.m == m {
				b.fenced = true
			}
		})
	})
}

// writeForeign writes as another process would.
func (b *box) writeForeign() {
	w := b.w
	if b.m != nil && !b.usable() || !b.exists || b.unsure || b.content.n == 0 {
		return
	}
	db, err := foreign(b.path, fmt.Sprintf("&_pragma=wal_autocheckpoint(%d)", []int{0, 1, 20, 1000}[w.rng.IntN(4)]))
	if err != nil {
		w.fail("%v", err)
	}
	b.log("another program writes")
	for range 1 + w.rng.IntN(3) {
		c, err := w.commit(w.t.Context(), db)
		if err != nil {
			w.fail("m%d: commit of another program: %v", b.i, err)
		}
		b.log("another program commits %d", c.n)
		b.saw(c, false)
	}
	if err := db.Close(); err != nil {
		w.fail("%v", err)
	}
	w.stamps.touch(w.t, b.path, b.path+"-wal")
}

// aSleep is how long a machine sleeps.
func (w *lives) aSleep() time.Duration {
	if w.rng.IntN(3) == 0 {
		return w.upTo(w.limits.grace)
	}
	return w.upTo(10 * w.limits.grace)
}

func (b *box) fallAsleep() {
	if b.usable() {
		b.gate.sleep(b.w.aSleep())
	}
}

// setTrap lets the machine fall asleep at one of its next requests.
func (b *box) setTrap() {
	if !b.usable() {
		return
	}
	w := b.w
	op := []multidbtest.Op{"", multidbtest.OpWrite, multidbtest.OpWrite, multidbtest.OpList, multidbtest.OpDelete}[w.rng.IntN(5)]
	b.gate.set(&trap{op: op, skip: w.rng.IntN(3), after: w.rng.IntN(2) == 0, d: w.aSleep()})
}

func (b *box) startOrClose() {
	switch {
	case b.m == nil:
		b.start()
	case b.usable() && b.w.rng.IntN(2) == 0:
		b.close()
	}
}

// close ends a Manager in order.
func (b *box) close() {
	w := b.w
	b.gate.set(nil)
	for i := range 4 {
		ctx, cancel := context.WithTimeout(context.Background(), []time.Duration{time.Minute, time.Hour}[min(i, 1)])
		c, unsure := b.content, b.unsure
		err := b.m.Close(ctx)
		ended := ctx.Err()
		cancel()
		b.log("close: %v", err)
		if err == nil && b.exists && !unsure {
			b.promise(c, "Close")
		}
		if ended == nil {
			break
		} else if i == 3 {
			w.fail("m%d: Close does not end: %v", b.i, err)
		}
	}
	b.m, b.fenced = nil, false
	b.ended()
}

// ended is called when a life of a machine is over.
func (b *box) ended() {
	b.w.loosenAll()
	b.took = false
	b.w.settle()
}

// fileSet is files by their names.
type fileSet map[string][]byte

// copyFiles reads a database and its log, which may be open in this process, while
// nobody writes.
func (w *lives) copyFiles(dir, base string) fileSet {
	synctest.Wait()
	s := fileSet{}
	f, err := sqlitedb.OpenFile(filepath.Join(dir, base))
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, base)); errors.Is(statErr, fs.ErrNotExist) {
			return s
		}
		w.fail("%v", err)
	}
	data := make([]byte, f.Size())
	_, err = f.ReadAt(data, 0)
	if err == io.EOF {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		w.fail("%v", err)
	}
	s[base] = data
	if log, err := os.ReadFile(filepath.Join(dir, base+"-wal")); err == nil {
		s[base+"-wal"] = log
	}
	return s
}

// put makes the files of a set those of a directory, in place: an inode stays.
func (w *lives) put(dir, base string, s fileSet) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		path := filepath.Join(dir, base+suffix)
		data, ok := s[base+suffix]
		var err error
		if ok {
			err = os.WriteFile(path, data, 0o600)
		} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			w.fail("%v", err)
		}
	}
}

// copyTree copies what else is in a state directory, which SQLite does not open.
func (w *lives) copyTree(from, to string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if strings.HasPrefix(d.Name(), "catalog.db") || d.Name() == "lock" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.fail("%v", err)
	}
}

// keepCopies makes backups of the tenant's file and of the catalog.
func (b *box) keepCopies() {
	if b.exists && !b.unsure {
		b.log("a backup is made, of n %d", b.content.n)
		b.old = append(b.old, backup{b.w.copyFiles(filepath.Dir(b.path), filepath.Base(b.path)), b.content})
	}
	if s := b.w.copyFiles(b.state, "catalog.db"); len(s) > 0 {
		b.catalog = append(b.catalog, s)
	}
}

// die is a power failure: everything is as it was at that moment, but that the
// catalog may be older.
func (b *box) die() {
	w := b.w
	if b.m == nil {
		return
	}
	if b.usable() && w.rng.IntN(2) == 0 { // with something under way
		b.gate.set(&trap{op: multidbtest.OpWrite, skip: w.rng.IntN(2), after: true, d: 10 * w.limits.grace})
		_ = b.write(false)
		b.syncLater()
		w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	}
	w.settle()
	dir, base := filepath.Dir(b.path), filepath.Base(b.path)
	data := w.copyFiles(dir, base)
	catalogFiles := w.copyFiles(b.state, "catalog.db")
	aside := filepath.Join(w.dir, fmt.Sprint("tree", b.i))
	w.copyTree(b.state, aside)
	ghosts := w.rng.IntN(2)
	if b.took {
		ghosts = 0 // nobody could say then whose choice is the last one
	}
	b.log("dies")
	b.gate.kill(ghosts)
	w.tally.kills++
	wal := b.path + "-wal"
	linked := os.Link(wal, wal+"-kept") == nil // so that its inode stays, too
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	_ = b.m.Close(ctx) // nothing of it reaches anybody
	cancel()
	if linked {
		if err := os.Rename(wal+"-kept", wal); err != nil {
			w.fail("%v", err)
		}
		_ = os.Remove(wal + "-kept") // two names of one file: the rename did nothing
	}
	w.put(dir, base, data)
	if n := len(b.catalog); n > 0 && w.rng.IntN(2) == 0 {
		b.log("its catalog is an old one")
		w.tally.rolled++
		catalogFiles = b.catalog[max(0, n-1-w.rng.IntN(3))]
	}
	w.put(b.state, "catalog.db", catalogFiles)
	for _, d := range w.list(b.state) {
		if d.IsDir() {
			w.must(os.RemoveAll(filepath.Join(b.state, d.Name())))
		}
	}
	w.copyTree(aside, b.state)
	w.must(os.RemoveAll(aside))
	w.stamps.touch(w.t, b.path, wal)
	b.m, b.fenced = nil, false
	b.ended()
	if b.gate.haunted() {
		w.tally.ghosts++
	}
	// An order that was under way may have cut the file's way to its place.
	if _, err := os.Stat(b.path); err != nil {
		b.exists = false
	}
}

func (w *lives) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fail("%v", err)
	}
}

func (w *lives) list(dir string) []os.DirEntry {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.fail("%v", err)
	}
	return entries
}

// down brings a machine down, if it can be.
func (b *box) down() bool {
	if b.m != nil {
		if !b.usable() || b.w.rng.IntN(2) == 0 {
			b.die()
		} else {
			b.close()
		}
	}
	return b.m == nil
}

func (b *box) loseState() {
	if !b.down() {
		return
	}
	b.log("loses its state directory")
	b.w.tally.lostStates++
	b.w.must(os.RemoveAll(b.state))
	b.catalog, b.had = nil, map[uint64]bool{b.content.hash: true} // it may find that the replica ends with it
	b.start()
}

func (b *box) loseAll() {
	if b.w.limits.unknown && !b.w.limits.restoreOpen || !b.down() {
		return // its new file would be the truth
	}
	b.log("loses everything")
	b.w.tally.lostAll++
	b.w.must(os.RemoveAll(b.state))
	b.w.must(os.RemoveAll(b.root))
	b.makeDirs()
	b.catalog, b.had, b.old, b.exists, b.unsure = nil, map[uint64]bool{}, nil, false, false
	b.start()
}

// cloneTo makes another machine a copy of this one, which goes on.
func (b *box) cloneTo(to *box) bool {
	w := b.w
	if to == b || b.unsure || !b.exists || !to.down() {
		return false
	}
	w.settle()
	b.log("is copied to m%d", to.i)
	w.tally.clones++
	data := w.copyFiles(filepath.Dir(b.path), filepath.Base(b.path))
	catalogFiles := w.copyFiles(b.state, "catalog.db")
	w.must(os.RemoveAll(to.state))
	w.must(os.RemoveAll(to.root))
	to.makeDirs()
	w.put(filepath.Dir(to.path), filepath.Base(to.path), data)
	w.copyTree(b.state, to.state)
	w.put(to.state, "catalog.db", catalogFiles)
	w.must(os.WriteFile(filepath.Join(to.state, "lock"), nil, 0o600))
	to.movePath()
	w.stamps.touch(w.t, to.path, to.path+"-wal")
	to.content, to.exists, to.unsure, to.chosen, to.catalog, to.old = b.content, true, false, false, nil, nil
	to.had = map[uint64]bool{}
	for h := range b.had {
		to.had[h] = true
	}
	to.start()
	return true
}

// movePath makes the paths of a copied catalog those of this machine: on machines of
// their own they would be the same.
func (b *box) movePath() {
	ctx := b.w.t.Context()
	c, err := catalog.Open(ctx, b.state, catalog.Options{})
	b.w.must(err)
	var all []catalog.Record
	for rec, err := range c.Load(ctx) {
		b.w.must(err)
		rec.Path = b.path
		all = append(all, rec)
	}
	for _, rec := range all {
		c.Put(rec)
	}
	b.w.must(c.Flush(ctx))
	if c.ClosedCleanly() {
		b.w.must(c.Close(ctx))
	} else {
		b.w.must(c.Abandon())
	}
}

// succession lets a machine fall asleep with something under way, and another one,
// which has its history, go on meanwhile.
func (w *lives) succession(b, to *box) {
	if to == b || !b.usable() {
		return
	}
	b.log("is to be succeeded by m%d", to.i)
	_ = b.write(true)
	if !b.usable() {
		return
	}
	before := w.rng.IntN(2) == 0 && b.cloneTo(to)
	d := w.aSleep()
	b.gate.set(&trap{op: multidbtest.OpWrite, after: w.rng.IntN(2) == 0, d: d})
	if !b.usable() {
		return
	}
	_ = b.write(false)
	b.syncLater()
	w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	if !before && !b.cloneTo(to) {
		return
	}
	for range 1 + w.rng.IntN(4) {
		_ = to.write(w.rng.IntN(2) == 0)
		w.pass(w.upTo(d))
		if to.fenced && to.usable() && w.rng.IntN(2) == 0 {
			_ = to.adopt()
		}
	}
	w.check()
}

// handOver moves the tenant to another machine.
func (w *lives) handOver(b, to *box) {
	if to == b || !b.usable() || b.unsure || !b.exists {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	c := b.content
	err := b.m.HandOver(ctx, sharedID)
	cancel()
	b.log("hands over n %d to m%d: %v", c.n, to.i, err)
	b.synced(c, err, "HandOver")
	if err != nil {
		return
	}
	w.tally.handovers++
	if to.m == nil {
		to.start()
	}
	if to.usable() && !w.limits.restoreOpen {
		_ = to.adopt()
	}
	if to.usable() {
		_ = to.write(w.rng.IntN(4) > 0)
	}
}

// putOldFile puts a backup of the tenant's file in its place.
func (b *box) putOldFile() {
	w := b.w
	if len(b.old) == 0 || !b.down() {
		return
	}
	old := b.old[w.rng.IntN(len(b.old))]
	newest := w.check()
	b.log("an old copy of its file is put in place, n %d", old.content.n)
	w.tally.oldFiles++
	dir, base := filepath.Dir(b.path), filepath.Base(b.path)
	if w.rng.IntN(2) == 0 {
		w.put(dir, base, nil)
	}
	w.put(dir, base, old.files)
	w.stamps.touch(w.t, b.path, b.path+"-wal")
	if b.had[newest.hash] || newest.n == 0 || b.gate != nil && b.gate.haunted() {
		w.giveUp(old.content) // who wrote last has chosen it
	}
	b.content, b.exists, b.unsure, b.chosen = old.content, true, false, false
	b.start()
}

// operator does something about a database that is fenced.
func (b *box) operator() {
	if !b.usable() || !b.fenced {
		return
	}
	if b.w.rng.IntN(4) == 0 {
		b.takeOver()
	} else {
		_ = b.adopt()
	}
}

// adopt lets the replica win.
func (b *box) adopt() error {
	w := b.w
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Minute)
	defer cancel()
	was, unsure, existed := b.content, b.unsure, b.exists
	kept, err := b.m.Adopt(ctx, sharedID)
	b.log("adopt: %q, %v", filepath.Base(kept), err)
	b.chosen = true
	if err != nil {
		b.unsure = true
		return err
	}
	w.tally.adoptions++
	b.fenced, b.took = false, false
	if existed && !unsure {
		if kept == "" {
			w.fail("m%d: adopted, and nothing was set aside", b.i)
		}
		if c := w.readFile(kept); c.hash != was.hash {
			w.fail("m%d: adopted, and what was set aside is not its file: %v, was %v", b.i, c, was)
		}
	}
	if !b.acquire(func(*sql.DB) {}) && !w.limits.restoreOpen {
		w.fail("m%d cannot be used after Adopt", b.i)
	}
	return nil
}

// takeOver lets a machine's file win.
func (b *box) takeOver() {
	w := b.w
	if !b.usable() || b.unsure || !b.exists {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), w.upTo(10*time.Minute))
	defer cancel()
	b.took = true // from now on until it is known
	c := b.content
	w.giveUp(c)
	err := b.m.TakeOver(ctx, sharedID)
	b.log("take over with n %d: %v", c.n, err)
	w.giveUp(c)
	if err != nil {
		return
	}
	w.tally.takeovers++
	b.took, b.fenced = false, false
	for _, v := range c.vals {
		delete(w.given, v)
	}
	b.promise(c, "TakeOver")
}
