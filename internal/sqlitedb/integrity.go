package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Depth is how much of a database CheckIntegrity looks at.
type Depth int

const (
	// Full compares every row with the entries of its indexes, beside what Quick does.
	// It is the zero value.
	Full Depth = iota
	// Quick checks the structure of the file: every page is used once, and every
	// tree is whole and in order.
	Quick
)

// Limits of a check. A schema is code written by whoever made the database.
const (
	maxFindings = 1 << 20   // that SQLite reports; it keeps those of the structure in memory
	maxTold     = 20        // different warnings that are kept
	maxMemory   = 256 << 20 // bytes of what the schema's expressions compute, all together
	maxComputed = 1 << 20   // bytes of one value, where expressions compute
	minTime     = 10 * time.Second
	minSpeed    = 1 << 20 // bytes a second
)

// CheckIntegrity checks a database that nobody uses, such as one that was just
// restored, whoever made it. Damage is ErrCorrupt with the first finding. The rest
// comes back as warnings: rows that break a rule of the schema, and content that could
// not be compared, because that needs a function, a collation, a tokenizer or a syntax
// that this SQLite lacks, or too much memory or time. The structure is always checked.
//
// It runs no function of the application. The expressions of the schema get about
// 256 MB of memory, and 10 s and a second for each MB of the file. It leaves the
// database as it is, and no file beside it. ctx ends it.
func CheckIntegrity(ctx context.Context, path string, depth Depth) (warnings []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	c := &check{path: path, depth: depth, counts: make(map[string]int),
		time: minTime + time.Duration(info.Size()/minSpeed)*time.Second}
	err = c.whole(ctx)
	var e *rawError
	if errors.As(err, &e) && !e.damage() && e.content() && ctx.Err() == nil {
		c.told, c.more = nil, 0
		clear(c.counts)
		if !e.running && errors.Is(e, ErrCorrupt) {
			c.warn("the schema is not wholly understood: " + e.msg)
		}
		if err = c.structure(ctx); err == nil {
			err = c.tables(ctx)
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return c.warnings(), nil
}

// damage reports whether the error says that the file is damaged. While it compiles a
// statement, SQLite also returns SQLITE_CORRUPT for a schema that it does not
// understand.
func (e *rawError) damage() bool { return e.running && errors.Is(e, ErrCorrupt) }

// content reports whether the error may come from what the database contains, and
// not from how it is stored.
func (e *rawError) content() bool {
	switch e.code & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
		return true
	}
	return false
}

// check is one run of CheckIntegrity.
type check struct {
	path   string
	depth  Depth
	time   time.Duration // for what the schema makes SQLite compute
	told   []string      // the warnings, in the order they came
	counts map[string]int
	more   int // warnings of other texts
}

func (c *check) pragma() string {
	if c.depth == Full {
		return "PRAGMA integrity_check"
	}
	return "PRAGMA quick_check"
}

func (c *check) open(ctx context.Context, pragmas ...string) (*raw, error) {
	r, err := openRaw(c.path)
	if err != nil {
		return nil, err
	}
	for _, p := range append([]string{"trusted_schema=OFF"}, pragmas...) {
		if err := r.exec(ctx, "PRAGMA "+p); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

// whole checks the database in one go.
func (c *check) whole(ctx context.Context) (err error) {
	// Alone with the file, SQLite needs no index of the log beside it.
	r, err := c.open(ctx, "locking_mode=EXCLUSIVE")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	ctx, cancel := context.WithTimeout(ctx, c.time)
	defer cancel()
	return c.run(ctx, r, c.pragma()+"("+strconv.Itoa(maxFindings)+")")
}

// run runs one of SQLite's checks, with its memory bounded.
func (c *check) run(ctx context.Context, r *raw, pragma string) error {
	computed, err := computes(ctx, r, pragma)
	if err != nil {
		return err
	}
	if computed > 0 {
		r.maxLength(int32(min(maxComputed, maxMemory/computed)))
		defer r.maxLength(sqlite3.SQLITE_MAX_LENGTH)
	}
	return r.query(ctx, pragma, func(cols []string) error { return c.finding(cols[0]) })
}

// computes returns an upper bound of the values that a check makes SQLite compute and
// that the database does not hold: how many of its steps may return a value longer than
// their input. All of these values may be in memory at once.
func computes(ctx context.Context, r *raw, pragma string) (n int, err error) {
	err = r.query(ctx, "EXPLAIN "+pragma, func(cols []string) error {
		switch cols[1] {
		case "Function", "PureFunc", "Concat", "VCheck":
			n++
		}
		return nil
	})
	return n, err
}

// rule matches SQLite's messages about a row that breaks a rule of the schema. Such a
// row is stored, indexed and read like any other.
var rule = regexp.MustCompile(`^((NULL|TEXT|NUMERIC|non-[A-Z]+) value in |CHECK constraint failed in |non-unique entry in index |unable to validate )`)

func (c *check) finding(text string) error {
	switch {
	case text == "ok":
	case rule.MatchString(text):
		c.warn(text)
	default:
		return fmt.Errorf("%w: %s", ErrCorrupt, oneLine(text))
	}
	return nil
}

func (c *check) warn(text string) {
	text = oneLine(text)
	if c.counts[text] > 0 {
		c.counts[text]++
	} else if len(c.told) < maxTold {
		c.told, c.counts[text] = append(c.told, text), 1
	} else {
		c.more++
	}
}

func (c *check) warnings() []string {
	all := make([]string, 0, len(c.told)+1)
	for _, text := range c.told {
		if n := c.counts[text]; n > 1 {
			text += fmt.Sprintf(" (%d times)", n)
		}
		all = append(all, text)
	}
	if c.more > 0 {
		all = append(all, fmt.Sprintf("and %d more", c.more))
	}
	return all
}

// oneLine shortens a text that a database may have chosen.
func oneLine(text string) string {
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.Join(strings.Fields(text), " ")
}

// structure checks the trees and pages without the schema's text: in a transaction
// that it rolls back, it replaces the schema by a plain table for every tree. Then
// there is nothing to understand or to compute.
func (c *check) structure(ctx context.Context) (err error) {
	// The pages that change must not leave the memory.
	r, err := c.open(ctx, "cache_spill=OFF", "writable_schema=ON")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	damage := func(cols []string) error {
		if cols[0] == "ok" || strings.HasPrefix(cols[0], "NULL value in ") { // an index may have NULLs
			return nil
		}
		return fmt.Errorf("%w: %s", ErrCorrupt, oneLine(cols[0]))
	}
	// The tree of the schema itself, before it changes.
	if err := r.query(ctx, "PRAGMA quick_check(sqlite_schema)", damage); err != nil {
		return err
	}
	var plain []string
	err = r.query(ctx, `SELECT s.rootpage, s.name, hex(substr(p.data, 1, 1))
		FROM sqlite_schema s LEFT JOIN sqlite_dbpage p ON p.pgno = s.rootpage WHERE s.rootpage <> 0`, func(cols []string) error {
		name, shape := "t"+strconv.Itoa(len(plain)), ""
		switch cols[2] {
		case "05", "0D":
			shape = "(a)"
		case "02", "0A":
			shape = "(a PRIMARY KEY) WITHOUT ROWID"
		default:
			return fmt.Errorf("%w: page %s, the root of %s, is not the page of a tree", ErrCorrupt, oneLine(cols[0]), oneLine(cols[1]))
		}
		plain = append(plain, fmt.Sprintf("INSERT INTO sqlite_schema VALUES('table', '%[1]s', '%[1]s', %[2]s, 'CREATE TABLE %[1]s%[3]s')", name, cols[0], shape))
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range append([]string{"BEGIN IMMEDIATE", "DELETE FROM sqlite_schema"}, plain...) {
		if err := r.exec(ctx, s); err != nil {
			return err
		}
	}
	// RESET makes the connection read its schema again: the plain one.
	if err := r.exec(ctx, "PRAGMA writable_schema=RESET"); err != nil {
		return err
	}
	// SQLite reports the structure first.
	if err := r.query(ctx, "PRAGMA quick_check(10)", damage); err != nil {
		return err
	}
	return r.exec(ctx, "ROLLBACK")
}

// tables checks the content of each table separately, as far as possible.
func (c *check) tables(ctx context.Context) (err error) {
	// With writable_schema, SQLite leaves out the parts it does not understand.
	r, err := c.open(ctx, "writable_schema=ON")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	var names []string
	err = r.query(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table'", func(cols []string) error {
		names = append(names, cols[0])
		return nil
	})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, c.time)
	defer cancel()
	for i, name := range names {
		if ctx.Err() == nil && bounded.Err() != nil {
			c.warn(fmt.Sprintf("the content of %d tables was not compared: it takes too long", len(names)-i))
			return nil
		}
		if err := c.table(bounded, r, name); err != nil {
			return err
		}
	}
	return nil
}

// table checks the content of one table: with the CHECK constraints or else without.
func (c *check) table(ctx context.Context, r *raw, name string) error {
	var err error
	for _, ignore := range []string{"OFF", "ON"} {
		if err := r.exec(ctx, "PRAGMA ignore_check_constraints="+ignore); err != nil {
			break // ctx has ended, which the caller reports
		}
		first := err
		err = c.run(ctx, r, c.pragma()+"('"+strings.ReplaceAll(name, "'", "''")+"')")
		var e *rawError
		switch {
		case err == nil && first != nil:
			c.warn(fmt.Sprintf("table %s: its CHECK constraints were left out: %s", name, short(first)))
			return nil
		case err == nil:
			return nil
		case errors.Is(err, ErrCorrupt):
			return err
		case errors.As(err, &e) && !e.content():
			return err
		}
	}
	if err != nil {
		c.warn(fmt.Sprintf("table %s: its content was not compared: %s", name, short(err)))
	}
	return nil
}

// short says in a few words why SQLite stopped.
func short(err error) string {
	var e *rawError
	switch {
	case !errors.As(err, &e):
		return err.Error()
	case e.code&0xff == sqlite3.SQLITE_INTERRUPT:
		return "it takes too long"
	case e.code&0xff == sqlite3.SQLITE_TOOBIG:
		return "a row, or a value that the schema computes, is too long"
	}
	if e.msg == "SQL logic error" { // which is all that FTS5 says of a tokenizer
		return e.msg + ", as of a tokenizer that is not known here"
	}
	return e.msg
}
