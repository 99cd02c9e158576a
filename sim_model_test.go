package multidb_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// The model of TestTheManagerAgreesWithItsModel. It knows what was written,
// when, and what was promised about it, and takes nothing from the Manager.

// subject is one ID: its file, if there is one, and all that its prefix of the
// replica may hold.
type subject struct {
	id   multidb.ID
	path string

	exists bool
	cur    int         // index in states of what the file holds
	rows   map[int]row // what that is
	states []state     // every commit in the life of the ID, whichever file it was made in
	acked  int         // index of the newest one that was promised to be durable; -1: none

	// Since when the Manager cannot know yet what happened to the files: a
	// rename, a deletion, another file in its place. Nobody uses it until then.
	movedAt time.Time
	moved   bool

	wroteAt  time.Time // by the pool, the last time
	quietAt  time.Time // nothing happened to it since
	othersAt time.Time // others did something to it, the last time
	old      bool      // its catalog record came from an old state directory, and it was not shipped since
	doubt    bool      // something happened since it was last seen to be at rest
	held     []multidb.Handle
}

type row struct{ v, pad int }

// state is what a database held at a commit. n is unique in a world, but for
// copies of one database under two IDs; 0: no table yet.
type state struct {
	n    int
	hash uint64
}

func hashRows(rows map[int]row) uint64 {
	h := fnv.New64a()
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintln(h, k, rows[k].v, pad(rows[k]))
	}
	return h.Sum64()
}

// pad is content that tells whose it is.
func pad(r row) string { return strings.Repeat(fmt.Sprintf("%07d.", r.v), r.pad) }

// may adds a state that may come about, and returns its index.
func (s *subject) may(n int, rows map[int]row) int {
	s.states = append(s.states, state{n, hashRows(rows)})
	return len(s.states) - 1
}

// find is the index of the newest state that a content can be, or -1.
func (s *subject) find(c state) int {
	for i := len(s.states) - 1; i >= 0; i-- {
		if s.states[i] == c {
			return i
		}
	}
	return -1
}

func (s *subject) promise(i int) {
	if s.states[i].n != 0 { // an empty file has nothing to promise
		s.acked = max(s.acked, i)
	}
}

const schema = "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v INTEGER, pad TEXT); CREATE TABLE IF NOT EXISTS meta(n INTEGER)"

// conn is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type conn interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// contentOf reads all there is.
func contentOf(ctx context.Context, db conn) (state, map[int]row, error) {
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name IN ('t','meta')").Scan(&tables); err != nil {
		return state{}, nil, err
	}
	rows := map[int]row{}
	if tables == 0 {
		return state{0, hashRows(rows)}, rows, nil
	}
	var c state
	if err := db.QueryRowContext(ctx, "SELECT n FROM meta").Scan(&c.n); err != nil {
		return state{}, nil, err
	}
	rs, err := db.QueryContext(ctx, "SELECT k, v, pad FROM t")
	if err != nil {
		return state{}, nil, err
	}
	defer rs.Close()
	for rs.Next() {
		var k int
		var r row
		var text string
		if err := rs.Scan(&k, &r.v, &text); err != nil {
			return state{}, nil, err
		}
		r.pad = len(text) / 8
		if text != pad(r) {
			return state{}, nil, fmt.Errorf("row %d has another's content", k)
		}
		rows[k] = r
	}
	c.hash = hashRows(rows)
	return c, rows, rs.Err()
}

// born makes the schema where there is none, in one commit. It is the open hook,
// too, and there runs on a goroutine of the pool's, while the world waits for it.
func (w *world) born(ctx context.Context, s *subject, db *sql.DB) error {
	c, rows, err := contentOf(ctx, db)
	if err != nil {
		return err
	}
	if c.n != 0 {
		// It stood there, or was restored from the replica.
		i := s.find(c)
		if i < 0 {
			return fmt.Errorf("opened in a state that it never had: n %d", c.n)
		}
		if !s.exists {
			if i < s.acked {
				return fmt.Errorf("restored on open to state %d, although %d was promised", i, s.acked)
			}
			s.exists, s.cur, s.rows = true, i, rows
		} else if i != s.cur {
			return fmt.Errorf("opened in state %d, was left in %d", i, s.cur)
		}
		return nil
	}
	if !s.exists || s.states[s.cur].n != 0 {
		if s.exists {
			return fmt.Errorf("opened without a table, was left in state %d", s.cur)
		}
		s.exists, s.rows = true, map[int]row{}
		s.cur = s.may(0, s.rows)
	}
	n := w.next()
	i := s.may(n, s.rows)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO meta VALUES(?)", n); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.cur = i
	return nil
}

// commit makes one random transaction.
func (w *world) commit(ctx context.Context, s *subject, db *sql.DB) error {
	rows := maps.Clone(s.rows)
	n := w.next()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 1 + w.rng.IntN(4) {
		k := w.rng.IntN(24)
		if w.rng.IntN(5) == 0 {
			delete(rows, k)
			_, err = tx.ExecContext(ctx, "DELETE FROM t WHERE k=?", k)
		} else {
			rows[k] = row{n, w.rng.IntN(w.padding)}
			_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO t VALUES(?,?,?)", k, n, pad(rows[k]))
		}
		if err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET n=?", n); err != nil {
		return err
	}
	i := s.may(n, rows)
	if w.rng.IntN(12) == 0 {
		err := tx.Rollback()
		s.states = s.states[:i] // it must never be seen
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.cur, s.rows = i, rows
	return nil
}

// foreign opens a database past the Manager, as another program would.
func foreign(path, params string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_txlock=immediate&_pragma=busy_timeout(10000)" + params}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// restorable is the state that a restore makes of the prefix now; ok is false
// where there is nothing to restore.
func (w *world) restorable(s *subject) (i int, ok bool) {
	w.t.Helper()
	out := w.scratch()
	opt := multidb.RestoreOptions{OutputPath: out, IntegrityCheck: multidb.IntegrityNone}
	if w.rng.IntN(4) == 0 {
		opt.IntegrityCheck = multidb.IntegrityFull
	}
	if err := multidb.RestoreFrom(w.t.Context(), w.rep, multidb.Database{ID: s.id, Path: s.path}, opt); err != nil {
		if errors.Is(err, multidb.ErrNoBackup) && s.acked < 0 {
			return -1, false
		}
		w.fail("%s: restore: %v", s.id, err)
	}
	db, err := foreign(out, "")
	if err != nil {
		w.fail("%v", err)
	}
	defer db.Close()
	c, _, err := contentOf(w.t.Context(), db)
	if err != nil {
		w.fail("%s: the restored database: %v", s.id, err)
	}
	i = s.find(c)
	if i < 0 {
		w.fail("%s was restored to a state that it never had: n %d", s.id, c.n)
	}
	if i < s.acked {
		w.fail("%s was restored to state %d (n %d), although %d (n %d) was promised", s.id, i, c.n, s.acked, s.states[s.acked].n)
	}
	return i, true
}

// sorted is every subject, in the order of their IDs.
func (w *world) sorted() []*subject {
	return slices.SortedFunc(maps.Values(w.subjects), func(a, b *subject) int { return cmp.Compare(a.id, b.id) })
}
