package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// content is what a database holds: every commit adds a value that no other has, and
// says in meta that it was the last one.
type content struct {
	hash uint64
	n    int
	vals []int // sorted
}

func (c content) has(v int) bool {
	_, ok := slices.BinarySearch(c.vals, v)
	return ok
}

func (c content) String() string {
	return fmt.Sprintf("n %d, %d values %v, hash %x", c.n, len(c.vals), c.vals, c.hash)
}

const livesSchema = "CREATE TABLE t(v INTEGER PRIMARY KEY); CREATE TABLE meta(n INTEGER, values_ INTEGER); CREATE TABLE p(k INTEGER PRIMARY KEY, v INTEGER, pad TEXT)"

// readContent reads all there is; n is 0 where there is no table.
func readContent(ctx context.Context, db conn) (c content, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type='table'").Scan(&tables); err != nil || tables == 0 {
		return c, err
	}
	h := fnv.New64a()
	var count int
	if err := db.QueryRowContext(ctx, "SELECT n, values_ FROM meta").Scan(&c.n, &count); err != nil {
		return c, err
	}
	fmt.Fprintln(h, c.n, count)
	each := func(query string, fn func(*sql.Rows) error) error {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := fn(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	if err := each("SELECT v FROM t ORDER BY v", func(r *sql.Rows) error {
		var v int
		err := r.Scan(&v)
		c.vals = append(c.vals, v)
		fmt.Fprintln(h, v)
		return err
	}); err != nil {
		return c, err
	}
	if err := each("SELECT k, v, pad FROM p ORDER BY k", func(r *sql.Rows) error {
		var k, v int
		var text string
		err := r.Scan(&k, &v, &text)
		fmt.Fprintln(h, k, v, text)
		return err
	}); err != nil {
		return c, err
	}
	c.hash = h.Sum64()
	if len(c.vals) != count {
		return c, fmt.Errorf("%d values, meta says %d", len(c.vals), count)
	}
	return c, nil
}

// next is a number that no other commit has.
func (w *lives) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.n
}

func (w *lives) learn(c content) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[c.hash] = c
}

func (w *lives) knows(c content) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.known[c.hash]
	return ok
}

// born makes the tables where there are none, in one commit.
func (w *lives) born(ctx context.Context, db *sql.DB) error {
	c, err := readContent(ctx, db)
	if err != nil || c.n != 0 {
		return err
	}
	n := w.next()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, livesSchema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES(?); INSERT INTO meta VALUES(?,1)", n, n); err != nil {
		return err
	}
	if c, err = readContent(ctx, tx); err != nil {
		return err
	}
	w.learn(c)
	return tx.Commit()
}

// commit makes one transaction and returns what the database holds then.
func (w *lives) commit(ctx context.Context, db *sql.DB) (c content, err error) {
	n := w.next()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return c, err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES(?)", n); err != nil {
		return c, err
	}
	for range w.rng.IntN(4) {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO p VALUES(?,?,?)", w.rng.IntN(16), n,
			strings.Repeat(fmt.Sprintf("%07d.", n), w.rng.IntN(w.limits.padding))); err != nil {
			return c, err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET n=?, values_=(SELECT count(*) FROM t)", n); err != nil {
		return c, err
	}
	if c, err = readContent(ctx, tx); err != nil {
		return c, err
	}
	w.learn(c)
	w.tally.commits++
	return c, tx.Commit()
}

// promise notes that a machine said that all of a content is durable.
func (b *box) promise(c content, how string) {
	w := b.w
	w.tally.promised++
	w.loosenAll()
	for _, v := range c.vals {
		if _, ok := w.promised[v]; !ok {
			w.promised[v] = fmt.Sprintf("m%d by a %s at %s", b.i, how, time.Now().Format("15:04:05.000"))
		}
	}
}

// giveUp notes that an operator has chosen a machine's history, or may have: what it
// lacks of all that was committed so far nobody can count on any more.
func (w *lives) giveUp(c content) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for v := 1; v <= w.n; v++ {
		if !c.has(v) {
			w.given[v] = true
		}
	}
}

// loosenAll gives up what a TakeOver without a result may give up at any moment.
func (w *lives) loosenAll() {
	for _, b := range w.boxes {
		if b.took {
			w.giveUp(b.content)
		}
	}
}

// wantAll fails unless a content has all that was promised.
func (w *lives) wantAll(c content, what string) {
	w.t.Helper()
	w.loosenAll()
	for v, who := range w.promised {
		if !c.has(v) && !w.given[v] {
			w.fail("%s has not %d, which was promised, first to %s; it has %v", what, v, who, c)
		}
	}
}

// owed is how many values the replica must have.
func (w *lives) owed() (n int) {
	w.loosenAll()
	for v := range w.promised {
		if !w.given[v] {
			n++
		}
	}
	return n
}

// check restores the newest state past all gates.
func (w *lives) check() (c content) {
	w.t.Helper()
	w.settle()
	w.outs++
	w.tally.restores++
	out := filepath.Join(w.dir, fmt.Sprint("out", w.outs))
	err := multidb.RestoreFrom(w.t.Context(), w.rep, multidb.Database{ID: sharedID, Path: w.boxes[0].path}, multidb.RestoreOptions{OutputPath: out})
	if err != nil {
		if errors.Is(err, multidb.ErrNoBackup) && w.owed() == 0 {
			return c
		}
		w.fail("restore: %v\n%s", err, w.files())
	}
	c = w.readFile(out)
	if err := os.Remove(out); err != nil {
		w.fail("%v", err)
	}
	if !w.knows(c) {
		w.fail("restored to what nobody ever had: %v\n%s", c, w.files())
	}
	w.wantAll(c, "the newest restore")
	return c
}

// files lists the store.
func (w *lives) files() string {
	var b strings.Builder
	for _, f := range w.rep.Files(string(sharedID)) {
		fmt.Fprintf(&b, "%d/%d-%d ", f.Level, f.MinTXID, f.MaxTXID)
	}
	return b.String()
}

// readFile reads a database that nobody else has open.
func (w *lives) readFile(path string) content {
	w.t.Helper()
	db, err := foreign(path, "")
	if err != nil {
		w.fail("%v", err)
	}
	c, err := readContent(w.t.Context(), db)
	if err = errors.Join(err, db.Close()); err != nil {
		w.fail("read %s: %v", path, err)
	}
	return c
}

// saw notes what the file of a machine holds. lost tells whether it may hold less
// than before.
func (b *box) saw(c content, mayLose bool) {
	b.w.t.Helper()
	if c.n != 0 && !b.w.knows(c) {
		b.w.fail("m%d holds what nobody ever had: %v", b.i, c)
	}
	if b.exists && !mayLose {
		for _, v := range b.content.vals {
			if !c.has(v) && !b.w.given[v] {
				b.w.fail("m%d: %d was in its file and is not any more, and nobody said so: it was %v, is %v", b.i, v, b.content, c)
			}
		}
	}
	b.content, b.exists, b.unsure, b.chosen = c, true, false, false
	b.had[c.hash] = true
}

// end brings all to rest: what was promised is there for a machine that knows
// nothing, and every machine can go on after it was told that the replica wins.
func (w *lives) end() {
	w.log("the end")
	for _, b := range w.boxes {
		if b.m == nil {
			continue
		}
		b.gate.set(nil)
		b.gate.loseAnswers(0)
		for b.gate.isAsleep() {
			w.pass(time.Second + time.Until(b.gate.until))
		}
		b.close()
	}
	w.joined.Wait()
	for _, g := range w.gates {
		g.flying.Wait()
	}
	w.check()
	fresh := w.addBox(w.limits.machines)
	for _, b := range append([]*box{fresh}, w.boxes[:w.limits.machines]...) {
		w.goOn(b)
	}
	w.check()
	for _, b := range w.boxes {
		if b.m != nil {
			w.fail("m%d was left running", b.i)
		}
		w.tally.sleeps += 0
	}
	for _, g := range w.gates {
		w.tally.sleeps += g.sleeps
		g.flying.Wait()
	}
}

// goOn starts a machine while no other runs, which must be able to write, if need be
// after an Adopt.
func (w *lives) goOn(b *box) {
	b.start()
	b.log("goes on, alone")
	had := b.exists
	if !b.acquire(func(db *sql.DB) {}) {
		// Its file is gone, and no new one is made over a backup.
		if err := b.adopt(); err != nil || !b.acquire(func(db *sql.DB) {}) {
			w.fail("m%d cannot be used, alone at a healthy replica: %v", b.i, err)
		}
		w.wantAll(b.content, fmt.Sprintf("m%d, after Adopt,", b.i))
	}
	if !had && (b.i >= w.limits.machines || w.limits.restoreOpen) {
		w.wantAll(b.content, fmt.Sprintf("m%d, restored on open,", b.i))
	}
	err := b.write(true)
	if errors.Is(err, multidb.ErrFenced) {
		if err := b.adopt(); err != nil {
			w.fail("m%d: adopt, alone at a healthy replica: %v", b.i, err)
		}
		w.wantAll(b.content, fmt.Sprintf("m%d, after Adopt,", b.i))
		err = b.write(true)
	}
	if err != nil {
		w.fail("m%d: sync, alone at a healthy replica: %v", b.i, err)
	}
	w.wantAll(b.content, fmt.Sprintf("m%d, alone,", b.i))
	b.close()
	w.check()
}
