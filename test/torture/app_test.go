package torture

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// app is an application with a random schema and random habits. After each
// commit it notes the state that it left. One goroutine uses it.
type app struct {
	rng    *rand.Rand
	hist   *history
	tables []table
	next   int // for names
	typed  int // columns, for their types
	trace  []string
	counts map[string]int // by kind of operation
}

type table struct {
	name string
	cols int
	key  bool // its first column is a key
}

func newApp(rng *rand.Rand) *app {
	return &app{rng: rng, hist: &history{}, counts: map[string]int{}}
}

func (a *app) log(kind, format string, args ...any) {
	a.counts[kind]++
	a.trace = append(a.trace, kind+" "+fmt.Sprintf(format, args...))
}

// last is the end of the trace, for a failure.
func (a *app) last() string { return strings.Join(a.trace[max(0, len(a.trace)-25):], "; ") }

// note takes the oracle's hash after a commit.
func (a *app) note(ctx context.Context, c querier) error {
	state, err := contentHash(ctx, c)
	if err == nil {
		a.hist.commit(state)
	}
	return err
}

// exec runs a statement. A constraint or a type that a random value
// violates is an answer, not a failure.
func (a *app) exec(ctx context.Context, c querier, q string, args ...any) error {
	_, err := c.ExecContext(ctx, q, args...)
	var e *sqlite.Error
	if errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT || e.Code()&0xff == sqlite3.SQLITE_MISMATCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// createSchema makes the first tables, in one commit.
func (a *app) createSchema(ctx context.Context, c querier) error {
	if err := a.note(ctx, c); err != nil {
		return err
	}
	if err := a.exec(ctx, c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	// The first has a column of each type beside its key.
	for _, cols := range []int{1 + len(columnTypes), 2 + a.rng.IntN(4), 2 + a.rng.IntN(4)} {
		if err := a.createTable(ctx, c, cols); err != nil {
			return err
		}
	}
	for _, q := range []string{
		"CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, at)",
		fmt.Sprintf("CREATE TRIGGER tr AFTER INSERT ON %s BEGIN INSERT INTO audit(what, at) VALUES('insert', new.c0); END", a.tables[0].name),
		fmt.Sprintf("CREATE TRIGGER tu AFTER UPDATE ON %s BEGIN UPDATE audit SET at = old.c1 WHERE id %% 7 = 0; END", a.tables[0].name),
		"CREATE VIRTUAL TABLE ft USING fts5(body)",
		"COMMIT",
	} {
		if err := a.exec(ctx, c, q); err != nil {
			return err
		}
	}
	return a.note(ctx, c)
}

// columnTypes are dealt out in turn. The empty one is of no affinity.
var columnTypes = []string{"INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC", ""}

func columnKind(typ string) string { return "column " + cmp.Or(typ, "without a type") }

// createTable makes one; every third is WITHOUT ROWID.
func (a *app) createTable(ctx context.Context, c querier, n int) error {
	a.next++
	tb := table{name: fmt.Sprintf("t%d", a.next), cols: n, key: a.next%3 == 2 || a.rng.IntN(3) > 0}
	var cols []string
	for i := range tb.cols {
		typ := columnTypes[a.typed%len(columnTypes)]
		if i > 0 || !tb.key {
			a.typed++
			a.counts[columnKind(typ)]++
		}
		cols = append(cols, fmt.Sprintf("c%d %s", i, typ))
	}
	q := ""
	if a.next%3 == 2 {
		a.counts["WITHOUT ROWID"]++
		cols[0], q = "c0 TEXT PRIMARY KEY NOT NULL", " WITHOUT ROWID"
	} else if tb.key {
		cols[0] = "c0 " + pick(a.rng, "INTEGER PRIMARY KEY", "BLOB UNIQUE")
	}
	if err := a.exec(ctx, c, fmt.Sprintf("CREATE TABLE %s(%s)%s", tb.name, strings.Join(cols, ", "), q)); err != nil {
		return err
	}
	if a.next == 1 || a.rng.IntN(2) == 0 {
		a.counts["index"]++
		if err := a.exec(ctx, c, fmt.Sprintf("CREATE INDEX i%d ON %s(c1)", a.next, tb.name)); err != nil {
			return err
		}
	}
	a.tables = append(a.tables, tb)
	return nil
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (a *app) blob(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := a.rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

func (a *app) value() any {
	switch a.rng.IntN(8) {
	case 0:
		return nil
	case 1:
		return a.rng.Int64() - a.rng.Int64()
	case 2:
		return a.rng.NormFloat64()
	case 3:
		return a.blob(a.rng.IntN(400))
	case 4:
		return strings.Repeat(pick(a.rng, "ä", "x\x00y", "word ", "'"), a.rng.IntN(80))
	case 5:
		if a.rng.IntN(8) == 0 {
			return a.blob(20_000 + a.rng.IntN(100_000)) // overflow pages
		}
		return a.blob(a.rng.IntN(5000))
	}
	return a.rng.IntN(200)
}

// statement changes something or other.
func (a *app) statement(ctx context.Context, c querier) error {
	return a.change(ctx, c, a.rng.IntN(100))
}

// change is the statement that a number below 100 stands for.
func (a *app) change(ctx context.Context, c querier, p int) error {
	tb := pick(a.rng, a.tables...)
	col := fmt.Sprintf("c%d", a.rng.IntN(tb.cols))
	switch {
	case p < 55:
		a.counts["insert"]++
		if tb.name == a.tables[0].name {
			a.counts["trigger"]++
		}
		args := make([]any, tb.cols)
		for i := range args {
			args[i] = a.value()
		}
		return a.exec(ctx, c, fmt.Sprintf("INSERT OR REPLACE INTO %s VALUES(%s)", tb.name,
			strings.TrimSuffix(strings.Repeat("?,", tb.cols), ",")), args...)
	case p < 70:
		a.counts["update"]++
		return a.exec(ctx, c, fmt.Sprintf("UPDATE OR IGNORE %s SET c1 = ? WHERE %s > ?", tb.name, col), a.value(), a.rng.IntN(200))
	case p < 82:
		a.counts["delete"]++
		return a.exec(ctx, c, fmt.Sprintf("DELETE FROM %s WHERE %s > ? OR length(%s) > 3000", tb.name, col, col), a.rng.IntN(400))
	case p < 88:
		a.counts["FTS5 insert"]++
		return a.exec(ctx, c, "INSERT INTO ft VALUES(?)", fmt.Sprintf("lorem %d ipsum %d", a.rng.IntN(100), a.rng.IntN(100)))
	case p < 90:
		a.counts["FTS5 delete"]++
		return a.exec(ctx, c, "DELETE FROM ft WHERE ft MATCH ?", fmt.Sprint(a.rng.IntN(100)))
	case p < 93:
		a.counts["user_version"]++
		return a.exec(ctx, c, fmt.Sprintf("PRAGMA user_version = %d", a.rng.Int32()))
	case p < 95:
		a.counts["application_id"]++
		return a.exec(ctx, c, fmt.Sprintf("PRAGMA application_id = %d", a.rng.Int32()))
	case p < 97:
		a.counts["create table"]++
		return a.createTable(ctx, c, 2+a.rng.IntN(4))
	case p < 98 && len(a.tables) > 2:
		a.counts["drop table"]++
		i := 1 + a.rng.IntN(len(a.tables)-1) // the first has the trigger
		name := a.tables[i].name
		a.tables = append(a.tables[:i:i], a.tables[i+1:]...)
		return a.exec(ctx, c, "DROP TABLE "+name)
	}
	return a.exec(ctx, c, "DELETE FROM audit WHERE id % 3 = 0")
}

// txKind is what a transaction is to be.
type txKind struct {
	statements int
	huge       bool // larger than any buffer on the way
	blob       int  // bytes of one value; 0: none
	rollback   bool
}

func (a *app) randomTx() txKind {
	return txKind{statements: pick(a.rng, 0, 1, 1, 2, 5, 30), huge: a.rng.IntN(30) == 0, rollback: a.rng.IntN(4) == 0}
}

// hugeBlob is more than the shipper keeps in memory (1 MiB) before it spills.
const hugeBlob = 1_300_000

// transaction runs one, with savepoints, that is committed or rolled back.
func (a *app) transaction(ctx context.Context, c querier, kind txKind) (err error) {
	before := append([]table(nil), a.tables...)
	a.log("transaction", "%+v", kind)
	for name, is := range map[string]bool{"huge": kind.huge, "huge blob": kind.blob > 0, "rollback": kind.rollback,
		"empty": kind.statements == 0 && !kind.huge && kind.blob == 0} {
		if is {
			a.counts[name]++
		}
	}
	if err := a.exec(ctx, c, fmt.Sprintf("PRAGMA cache_size = %d", pick(a.rng, 5, 5, -2000))); err != nil { // 5: spills
		return err
	}
	begin := pick(a.rng, "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE")
	if err := a.exec(ctx, c, begin); err != nil {
		return err
	}
	defer func() {
		var e *sqlite.Error
		if begin == "BEGIN" && errors.As(err, &e) && e.Code() == sqlite3.SQLITE_BUSY {
			// It had read before it wrote: SQLite does not wait then, whoever has
			// the lock, here a checkpoint of the Manager's.
			a.log("refused upgrade", "")
			a.tables = before
			err = a.exec(ctx, c, "ROLLBACK")
		}
	}()
	for i := range kind.statements {
		if a.rng.IntN(6) == 0 {
			a.counts["savepoint"]++
			inner := append([]table(nil), a.tables...)
			if err := a.exec(ctx, c, "SAVEPOINT s"); err != nil {
				return err
			}
			if err := errors.Join(a.statement(ctx, c), a.statement(ctx, c)); err != nil {
				return err
			}
			if a.rng.IntN(2) == 0 {
				a.counts["rollback to a savepoint"]++
				if err := a.exec(ctx, c, "ROLLBACK TO s"); err != nil {
					return err
				}
				a.tables = inner
			}
			if err := a.exec(ctx, c, "RELEASE s"); err != nil {
				return err
			}
			continue
		}
		if err := a.statement(ctx, c); err != nil {
			return fmt.Errorf("statement %d: %w", i, err)
		}
	}
	if kind.blob > 0 {
		if err := a.exec(ctx, c, fmt.Sprintf("INSERT OR REPLACE INTO %s(c0, c1) VALUES(?, ?)", a.tables[0].name), a.rng.IntN(1000), a.blob(kind.blob)); err != nil {
			return err
		}
	}
	if kind.huge {
		for range 60 {
			if err := a.exec(ctx, c, fmt.Sprintf("INSERT OR REPLACE INTO %s(c0, c1) VALUES(?, ?)", a.tables[0].name), a.rng.IntN(1000), a.blob(40_000)); err != nil {
				return err
			}
		}
	}
	if kind.rollback {
		a.tables = before
		return a.exec(ctx, c, "ROLLBACK")
	}
	if err := a.exec(ctx, c, "COMMIT"); err != nil {
		return err
	}
	if err := a.note(ctx, c); err != nil || !kind.huge && kind.blob == 0 {
		return err
	}
	// So that the oracle's work stays small.
	if err := a.exec(ctx, c, fmt.Sprintf("DELETE FROM %s WHERE length(c1) >= 40000", a.tables[0].name)); err != nil {
		return err
	}
	return a.note(ctx, c)
}

// vacuums move pages, or change what is moved when.
var vacuums = []string{"VACUUM", "PRAGMA incremental_vacuum(3)", "PRAGMA incremental_vacuum",
	"PRAGMA auto_vacuum = FULL; VACUUM", "PRAGMA auto_vacuum = INCREMENTAL; VACUUM", "PRAGMA auto_vacuum = NONE; VACUUM"}

func (a *app) vacuum(ctx context.Context, c querier, q string) error {
	a.log(q, "")
	if err := a.exec(ctx, c, q); err != nil {
		return err
	}
	return a.note(ctx, c)
}

var (
	pageSizes = []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
	journals  = []string{"DELETE", "TRUNCATE", "PERSIST", "MEMORY"}
)

// journal leaves WAL mode, works there with another page size, and comes back.
// It needs the database for itself, which retry waits for.
func (a *app) journal(ctx context.Context, db *sql.DB, mode string, size int, retry func(func() error) error) error {
	a.log("journal "+mode, "")
	if err := retry(func() error { return a.exec(ctx, db, "PRAGMA journal_mode = "+mode) }); err != nil {
		return err
	}
	a.log("page size "+fmt.Sprint(size), "")
	if err := retry(func() error { return a.exec(ctx, db, fmt.Sprintf("PRAGMA page_size = %d; VACUUM", size)) }); err != nil {
		return err
	}
	for range 1 + a.rng.IntN(3) {
		kind := a.randomTx()
		kind.huge = false
		if err := a.transaction(ctx, db, kind); err != nil {
			return err
		}
	}
	if a.rng.IntN(4) == 0 {
		return nil // the pool converts it
	}
	a.log("back to WAL", "")
	return retry(func() error { return a.exec(ctx, db, "PRAGMA journal_mode = WAL") })
}
