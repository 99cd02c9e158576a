package torture

import (
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
	trace  []string
	counts map[string]int
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
	for range 2 + a.rng.IntN(3) {
		if err := a.createTable(ctx, c); err != nil {
			return err
		}
	}
	for _, q := range []string{
		"CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, at)",
		fmt.Sprintf("CREATE TRIGGER tr AFTER INSERT ON %s BEGIN INSERT INTO audit(what, at) VALUES('insert', new.c0); END", a.tables[0].name),
		"CREATE VIRTUAL TABLE ft USING fts5(body)",
		"COMMIT",
	} {
		if err := a.exec(ctx, c, q); err != nil {
			return err
		}
	}
	return a.note(ctx, c)
}

func (a *app) createTable(ctx context.Context, c querier) error {
	a.next++
	tb := table{name: fmt.Sprintf("t%d", a.next), cols: 2 + a.rng.IntN(4), key: a.rng.IntN(3) > 0}
	var cols []string
	for i := range tb.cols {
		cols = append(cols, fmt.Sprintf("c%d %s", i, pick(a.rng, "INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC", "")))
	}
	q := ""
	if tb.key {
		cols[0] = "c0 " + pick(a.rng, "INTEGER PRIMARY KEY", "TEXT PRIMARY KEY NOT NULL", "BLOB UNIQUE")
		if strings.Contains(cols[0], "NOT NULL") {
			q = " WITHOUT ROWID"
		}
	}
	if err := a.exec(ctx, c, fmt.Sprintf("CREATE TABLE %s(%s)%s", tb.name, strings.Join(cols, ", "), q)); err != nil {
		return err
	}
	if a.rng.IntN(2) == 0 {
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
	tb := pick(a.rng, a.tables...)
	col := fmt.Sprintf("c%d", a.rng.IntN(tb.cols))
	switch p := a.rng.IntN(100); {
	case p < 55:
		args := make([]any, tb.cols)
		for i := range args {
			args[i] = a.value()
		}
		return a.exec(ctx, c, fmt.Sprintf("INSERT OR REPLACE INTO %s VALUES(%s)", tb.name,
			strings.TrimSuffix(strings.Repeat("?,", tb.cols), ",")), args...)
	case p < 70:
		return a.exec(ctx, c, fmt.Sprintf("UPDATE OR IGNORE %s SET c1 = ? WHERE %s > ?", tb.name, col), a.value(), a.rng.IntN(200))
	case p < 82:
		return a.exec(ctx, c, fmt.Sprintf("DELETE FROM %s WHERE %s > ? OR length(%s) > 3000", tb.name, col, col), a.rng.IntN(400))
	case p < 88:
		return a.exec(ctx, c, "INSERT INTO ft VALUES(?)", fmt.Sprintf("lorem %d ipsum %d", a.rng.IntN(100), a.rng.IntN(100)))
	case p < 90:
		return a.exec(ctx, c, "DELETE FROM ft WHERE ft MATCH ?", fmt.Sprint(a.rng.IntN(100)))
	case p < 93:
		return a.exec(ctx, c, fmt.Sprintf("PRAGMA user_version = %d", a.rng.Int32()))
	case p < 95:
		return a.exec(ctx, c, fmt.Sprintf("PRAGMA application_id = %d", a.rng.Int32()))
	case p < 97:
		return a.createTable(ctx, c)
	case p < 98 && len(a.tables) > 3:
		i := 1 + a.rng.IntN(len(a.tables)-1) // the first has the trigger
		name := a.tables[i].name
		a.tables = append(a.tables[:i:i], a.tables[i+1:]...)
		return a.exec(ctx, c, "DROP TABLE "+name)
	}
	return a.exec(ctx, c, "DELETE FROM audit WHERE id % 3 = 0")
}

// transaction runs one, with savepoints, that is committed or rolled back.
// huge: larger than any buffer on the way.
func (a *app) transaction(ctx context.Context, c querier, huge bool) (err error) {
	before := append([]table(nil), a.tables...)
	n := pick(a.rng, 0, 1, 1, 2, 5, 30)
	rollback := a.rng.IntN(4) == 0
	a.log("transaction", "of %d, huge %v, rollback %v", n, huge, rollback)
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
	for i := range n {
		if a.rng.IntN(6) == 0 {
			inner := append([]table(nil), a.tables...)
			if err := a.exec(ctx, c, "SAVEPOINT s"); err != nil {
				return err
			}
			if err := errors.Join(a.statement(ctx, c), a.statement(ctx, c)); err != nil {
				return err
			}
			if a.rng.IntN(2) == 0 {
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
	if huge {
		for range 60 {
			if err := a.exec(ctx, c, fmt.Sprintf("INSERT OR REPLACE INTO %s(c0, c1) VALUES(?, ?)", a.tables[0].name), a.rng.IntN(1000), a.blob(40_000)); err != nil {
				return err
			}
		}
	}
	if rollback {
		a.tables = before
		return a.exec(ctx, c, "ROLLBACK")
	}
	if err := a.exec(ctx, c, "COMMIT"); err != nil {
		return err
	}
	if err := a.note(ctx, c); err != nil || !huge {
		return err
	}
	// So that the oracle's work stays small.
	if err := a.exec(ctx, c, fmt.Sprintf("DELETE FROM %s WHERE length(c1) >= 40000", a.tables[0].name)); err != nil {
		return err
	}
	return a.note(ctx, c)
}

// vacuum moves pages, or changes what is moved when.
func (a *app) vacuum(ctx context.Context, c querier) error {
	q := pick(a.rng, "VACUUM", "PRAGMA incremental_vacuum(3)", "PRAGMA incremental_vacuum",
		"PRAGMA auto_vacuum = FULL; VACUUM", "PRAGMA auto_vacuum = INCREMENTAL; VACUUM", "PRAGMA auto_vacuum = NONE; VACUUM")
	a.log("vacuum", "%s", q)
	if err := a.exec(ctx, c, q); err != nil {
		return err
	}
	return a.note(ctx, c)
}

// journal leaves WAL mode, works there with another page size, and comes back.
// It needs the database for itself, which retry waits for.
func (a *app) journal(ctx context.Context, db *sql.DB, retry func(func() error) error) error {
	mode, size := pick(a.rng, "DELETE", "TRUNCATE", "PERSIST"), pick(a.rng, 512, 1024, 4096, 8192, 16384, 65536)
	a.log("journal", "%s, page size %d", mode, size)
	if err := retry(func() error { return a.exec(ctx, db, "PRAGMA journal_mode = "+mode) }); err != nil {
		return err
	}
	if err := retry(func() error { return a.exec(ctx, db, fmt.Sprintf("PRAGMA page_size = %d; VACUUM", size)) }); err != nil {
		return err
	}
	for range 1 + a.rng.IntN(3) {
		if err := a.transaction(ctx, db, false); err != nil {
			return err
		}
	}
	if a.rng.IntN(4) == 0 {
		return nil // the pool converts it
	}
	return retry(func() error { return a.exec(ctx, db, "PRAGMA journal_mode = WAL") })
}
