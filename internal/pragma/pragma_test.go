package pragma

import (
	"database/sql"
	"strings"
	"testing"

	_ "modernc.org/sqlite"
)

// connection returns a connection, and what a pragma is on it.
func connection(t *testing.T) (*sql.DB, func(name string) string) {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db, func(name string) (v string) {
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return v
	}
}

// TestEveryPragmaOfThisSQLiteIsSetOrRefused: a new version of SQLite that has another one
// makes somebody decide.
func TestEveryPragmaOfThisSQLiteIsSetOrRefused(t *testing.T) {
	db, _ := connection(t)
	rows, err := db.QueryContext(t.Context(), "SELECT name FROM pragma_pragma_list")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	known := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		known[name] = true
		_, may := allowed[name]
		if _, not := refused[name]; may == not {
			t.Errorf("%s: allowed is %v, refused is %v", name, may, not)
		}
	}
	if rows.Err() != nil || len(known) < 60 {
		t.Errorf("%d pragmas, %v", len(known), rows.Err())
	}
	for name := range allowed {
		if !known[name] {
			t.Errorf("SQLite would ignore %s", name)
		}
	}
}

// TestWhatIsAllowedTakesEffect: each has a value that is not its default, and is read back.
func TestWhatIsAllowedTakesEffect(t *testing.T) {
	try := map[string]string{
		"analysis_limit": "400", "automatic_index": "off", "cache_size": "-7777", "cache_spill": "off", "cell_size_check": "on",
		"foreign_keys": "Yes", "fullfsync": "on", "ignore_check_constraints": "true", "legacy_alter_table": "1", "max_page_count": "1234",
		"query_only": "on", "recursive_triggers": "on", "reverse_unordered_selects": "on", "secure_delete": "FAST", "synchronous": "extra",
		"temp_store": "memory", "threads": "3", "trusted_schema": "off",
	}
	is := map[string]string{"secure_delete": "2", "synchronous": "3", "temp_store": "2"}
	for name := range allowed {
		db, read := connection(t)
		before := read(name)
		p, err := Parse(" "+strings.ToUpper(name), try[name])
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := db.ExecContext(t.Context(), p.SQL()); err != nil {
			t.Error(err)
		}
		want := is[name]
		switch strings.ToLower(try[name]) {
		case "on", "yes", "true":
			want = "1"
		case "off":
			want = "0"
		}
		if want == "" {
			want = try[name]
		}
		if after := read(name); after == before || after != want {
			t.Errorf("%s is %s after it was set, was %s; want %s", p.SQL(), after, before, want)
		}
	}
}

func TestWhatCannotBeSetSaysWhy(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"journal_mode", "delete", "write-ahead log"},
		{"WAL_Checkpoint", "truncate", "checkpoints are multidb's"},
		{"wal_autocheckpoint", "1000", "checkpoints are multidb's"},
		{"journal_size_limit", "0", "checkpoints are multidb's"},
		{"locking_mode", "exclusive", "reading what is to be shipped"},
		{"page_size", "8192", "WAL mode"},
		{"auto_vacuum", "1", "VACUUM"},
		{"mmap_size", "268435456", "end the process"},
		{"busy_timeout", "1", "WithBusyTimeout"},
		{"user_version", "3", "WithOpenHook"},
		{"synchronous", "OFF", "power failure"},
		{"synchronous", "0", "power failure"},
		{"foreign_key", "on", "did you mean foreign_keys?"},
		{"main.cache_size", "1", "did you mean cache_size?"},
		{"", "on", "there are analysis_limit, "},
		{"zzzzzzzzzzz", "on", "there are analysis_limit, "},
		{"foreign_keys", "onn", "want on, off"},
		{"foreign_keys", "", "want on, off"},
		{"foreign_keys", "on; DROP TABLE t", "want on, off"},
		{"foreign_keys=off; --", "on", "no pragma"},
		{"cache_size", "1;2", "a whole number"},
		{"cache_size", "9999999999", "a whole number"},
		{"cache_spill", "maybe", "want on, off, or a whole number from 0"},
		{"secure_delete", "slow", "want on, off, fast"},
		{"temp_store", "disk", "want default, file, memory"},
		{"threads", "-1", "from 0 to 8"},
	} {
		p, err := Parse(c.name, c.value)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q = %q: %v, %v; want %q", c.name, c.value, p, err, c.want)
		}
	}
}

// FuzzParse: whatever is written, what is run is one statement of known words.
func FuzzParse(f *testing.F) {
	f.Add("foreign_keys", "on")
	f.Add("cache_size", "-2000")
	f.Add("foreign_keys", "1;--")
	f.Fuzz(func(t *testing.T, name, value string) {
		p, err := Parse(name, value)
		if err != nil {
			return
		}
		text := strings.TrimPrefix(p.SQL(), "PRAGMA ")
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz_0123456789-=") != "" || strings.Count(text, "=") != 1 || strings.Contains(text, "--") {
			t.Errorf("%q, %q: %s", name, value, p.SQL())
		}
	})
}
