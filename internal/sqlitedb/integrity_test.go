package sqlitedb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// made returns the path of a closed database that the statements made.
func made(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpen(t, path)
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		exec(t, db, s)
	}
	exec(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + s); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return path
}

// say changes what the schema says of an object.
func say(name, sql string) string {
	return fmt.Sprintf("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql='%s' WHERE name='%s'; PRAGMA writable_schema=OFF",
		strings.ReplaceAll(sql, "'", "''"), name)
}

// good is a table with rows that take many pages, and an index.
const good = "CREATE TABLE good(k INTEGER PRIMARY KEY, v); CREATE INDEX good_v ON good(v);" +
	"INSERT INTO good(v) SELECT randomblob(300) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) SELECT i FROM n)"

// working are databases that their application reads and writes, and that SQLite's
// integrity_check does not find ok. want is what the warnings say of the full and
// of the quick check.
var working = []struct {
	name        string
	statements  []string
	full, quick string
}{
	{"an index on a function of the application", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES('A'); CREATE INDEX i ON t(lower(v))", say("i", "CREATE INDEX i ON t(slug(v))"),
	}, "table t: its content was not compared: unknown function: slug()", ""},
	{"a column with a collation of the application", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES('A'); CREATE INDEX i ON t(v)", say("t", "CREATE TABLE t(v COLLATE german)"),
	}, "no such collation sequence: german", "no such collation sequence: german"},
	{"a key with a collation of the application", []string{
		"CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES('A', 1)", say("t", "CREATE TABLE t(k PRIMARY KEY COLLATE german, v) WITHOUT ROWID"),
	}, "no such collation sequence: german", "no such collation sequence: german"},
	{"a tokenizer of the application", []string{
		"CREATE VIRTUAL TABLE f USING fts5(v); INSERT INTO f VALUES('one two')", say("f", "CREATE VIRTUAL TABLE f USING fts5(v, tokenize='mine')"),
	}, "table f: its content was not compared: SQL logic error, as of a tokenizer that is not known here",
		"table f: its content was not compared: SQL logic error, as of a tokenizer that is not known here"},
	{"a module of the application", []string{
		"CREATE VIRTUAL TABLE f USING fts5(v); INSERT INTO f VALUES('one two')", say("f", "CREATE VIRTUAL TABLE f USING mine(v)"),
	}, "", ""}, // SQLite leaves it out, and so checks the rest
	{"NULL in a column that became NOT NULL", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES(NULL),(1),(NULL)", say("t", "CREATE TABLE t(v NOT NULL)"),
	}, "NULL value in t.v (2 times)", "NULL value in t.v (2 times)"},
	{"text in a column that became a number", []string{
		"CREATE TABLE t(v INT) STRICT; INSERT INTO t VALUES(1)", say("t", "CREATE TABLE t(v TEXT) STRICT"),
	}, "non-TEXT value in t.v", "non-TEXT value in t.v"},
	{"a row from before a CHECK", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES(1)", say("t", "CREATE TABLE t(v CHECK(v > 5))"),
	}, "CHECK constraint failed in t", "CHECK constraint failed in t"},
	{"a CHECK with a function of the application", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES(1)", say("t", "CREATE TABLE t(v CHECK(valid(v)))"),
	}, "table t: its CHECK constraints were left out: unknown function: valid()", "table t: its CHECK constraints were left out: unknown function: valid()"},
	{"two equal rows from before a UNIQUE", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES(1),(1); CREATE INDEX i ON t(v)", say("i", "CREATE UNIQUE INDEX i ON t(v)"),
	}, "non-unique entry in index i", ""},
	{"a view in a syntax that is not known yet", []string{
		"CREATE VIEW w AS SELECT 1", say("w", "CREATE VIEW w AS SELECT FROM WHERE"),
	}, "the schema is not wholly understood", "the schema is not wholly understood"},
	{"a table in a syntax that is not known yet", []string{
		"CREATE TABLE t(v); INSERT INTO t VALUES(1); CREATE INDEX i ON t(v)", say("t", "CREATE TABLE t(v) WITHOUT FUSS"),
	}, "the schema is not wholly understood", "the schema is not wholly understood"},
}

func TestAWorkingDatabasePassesWithAWarning(t *testing.T) {
	for _, tt := range working {
		t.Run(tt.name, func(t *testing.T) {
			path := made(t, append([]string{good}, tt.statements...)...)
			before := read(t, path)
			for depth, want := range map[Depth]string{Quick: tt.quick, Full: tt.full} {
				warnings, err := CheckIntegrity(t.Context(), path, depth)
				if err != nil {
					t.Fatalf("depth %d: %v", depth, err)
				}
				got := strings.Join(warnings, "\n")
				if !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("depth %d: the warnings are %q, want %q", depth, warnings, want)
				}
			}
			if !bytes.Equal(before, read(t, path)) {
				t.Error("the check has changed the file")
			}
			if all, err := filepath.Glob(path + "*"); err != nil || len(all) != 1 {
				t.Errorf("it leaves %v, %v", all, err)
			}
		})
	}
}

// TestDamageIsFoundInAWorkingDatabase whose schema keeps SQLite from checking it in
// one go, too.
func TestDamageIsFoundInAWorkingDatabase(t *testing.T) {
	for _, tt := range append(working[:len(working):len(working)], struct {
		name        string
		statements  []string
		full, quick string
	}{name: "an ordinary one"}) {
		t.Run(tt.name, func(t *testing.T) {
			path := made(t, append([]string{good, "CREATE TABLE gone(v); INSERT INTO gone VALUES(zeroblob(100000)); DROP TABLE gone"}, tt.statements...)...)
			root := func(name string) (page int64) {
				c, err := openRaw(path)
				if err != nil {
					t.Fatal(err)
				}
				err = c.query(t.Context(), "PRAGMA writable_schema=ON", func([]string) error { return nil })
				if err == nil {
					err = c.query(t.Context(), "SELECT rootpage FROM sqlite_schema WHERE name='"+name+"'", func(cols []string) error {
						_, err := fmt.Sscan(cols[0], &page)
						return err
					})
				}
				if err := errors.Join(err, c.close()); err != nil || page == 0 {
					t.Fatal(page, err)
				}
				return page - 1
			}
			table, index := root("good"), root("good_v")
			whole := read(t, path)
			for _, damage := range []struct {
				name string
				full bool // it shows only in a full check
				do   func(b []byte)
			}{
				{"the root of a table is empty", false, func(b []byte) { clear(b[table*4096 : table*4096+4096]) }},
				{"a page of a table is lost", false, func(b []byte) {
					copy(b[table*4096+8:], b[table*4096+12:table*4096+16]) // the last child is one of the others
					copy(b[table*4096+8:], binary.BigEndian.AppendUint32(nil, uint32(index+1)))
				}},
				{"a child of an index is the root of a table", false, func(b []byte) {
					copy(b[index*4096+8:], binary.BigEndian.AppendUint32(nil, uint32(table+1)))
				}},
				{"the free list leads to a page in use", false, func(b []byte) {
					copy(b[32:], binary.BigEndian.AppendUint32(nil, uint32(table+1)))
				}},
				{"pages are in no tree", false, func(b []byte) { clear(b[32:40]) }},
				{"an index has another value than the table", true, func(b []byte) {
					child := int64(binary.BigEndian.Uint32(b[index*4096+8:])) - 1
					cell := child*4096 + int64(binary.BigEndian.Uint16(b[child*4096+12:])) // in the root's last child, which has children itself
					b[cell+100] ^= 1
				}},
			} {
				b := bytes.Clone(whole)
				damage.do(b)
				if bytes.Equal(b, whole) {
					t.Fatalf("%s: nothing has changed", damage.name)
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, depth := range []Depth{Quick, Full} {
					warnings, err := CheckIntegrity(t.Context(), path, depth)
					if found := errors.Is(err, ErrCorrupt); found != (depth == Full || !damage.full) {
						t.Errorf("%s: depth %d: %q, %v", damage.name, depth, warnings, err)
					}
				}
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// peak returns the most memory that the process has had since the last call, and
// now, in bytes.
func peak(t *testing.T) (most, now int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		for name, p := range map[string]*int64{"VmHWM: %d kB": &most, "VmRSS: %d kB": &now} {
			if n, _ := fmt.Sscanf(line, name, p); n == 1 {
				*p <<= 10
			}
		}
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil || most == 0 {
		t.Skip("this kernel does not tell: ", err)
	}
	return most, now
}

func TestWhatAHostileSchemaComputesHasBoundsInMemory(t *testing.T) {
	rows := "INSERT INTO t(v) VALUES(1),(2),(3),(4),(5)"
	for name, statements := range map[string][]string{
		"a CHECK": {"CREATE TABLE t(v)", rows, say("t", "CREATE TABLE t(v CHECK(length(hex(zeroblob(400000000))) > v))")},
		"a CHECK of many values": {"CREATE TABLE t(v)", rows, say("t", "CREATE TABLE t(v CHECK(max(v"+
			strings.Repeat(",zeroblob(10000000)||v", 60)+") < 0))")},
		"an index": {"CREATE TABLE t(v); CREATE INDEX i ON t(hex(v))", rows, say("i", "CREATE INDEX i ON t(hex(zeroblob(300000000)))")},
		"a column": {"CREATE TABLE t(v, w TEXT AS (v) NOT NULL)", rows, say("t", "CREATE TABLE t(v, w TEXT AS (hex(zeroblob(300000000))) NOT NULL)")},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t, append([]string{good}, statements...)...)
			_, before := peak(t)
			warnings, err := CheckIntegrity(t.Context(), path, Full)
			if err != nil || len(warnings) == 0 {
				t.Errorf("%q, %v; want a warning", warnings, err)
			}
			if most, _ := peak(t); most-before > 300<<20 {
				t.Errorf("it took %d MB, want 300 at most", (most-before)>>20)
			}
		})
	}
}

func TestAHostileSchemaEndsWithTheContextAndWithItsTime(t *testing.T) {
	// Steps without end and without memory, between two findings: nobody is even.
	path := made(t, good, "CREATE TABLE t(v); INSERT INTO t SELECT 2*k FROM good", say("t", "CREATE TABLE t(v CHECK(v % 2"+
		strings.Repeat("+instr(hex(zeroblob(20000)),'1')", 900)+"))"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if warnings, err := CheckIntegrity(ctx, path, Full); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", warnings, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v after its context had ended", took)
	}
	c := &check{path: path, depth: Full, time: 100 * time.Millisecond, counts: map[string]int{}}
	var e *rawError
	if err := c.whole(t.Context()); !errors.As(err, &e) || !e.content() {
		t.Errorf("in one go: %v", err)
	}
	c.told = nil
	if err := c.tables(t.Context()); err != nil || !strings.Contains(strings.Join(c.told, "\n"), "too long") {
		t.Errorf("table by table: %q, %v", c.told, err)
	}
}

func TestFindingsOfManyKindsAreTold(t *testing.T) {
	const n = 50
	var columns, constraints []string
	for i := range n {
		columns = append(columns, fmt.Sprintf("c%d", i))
		constraints = append(constraints, fmt.Sprintf("c%d NOT NULL", i))
	}
	path := made(t, "CREATE TABLE t("+strings.Join(columns, ",")+"); INSERT INTO t DEFAULT VALUES",
		say("t", "CREATE TABLE t("+strings.Join(constraints, ",")+")"))
	warnings, err := CheckIntegrity(t.Context(), path, Full)
	if err != nil || len(warnings) != maxTold+1 || warnings[maxTold] != fmt.Sprintf("and %d more", n-maxTold) {
		t.Errorf("%q, %v", warnings, err)
	}
}
