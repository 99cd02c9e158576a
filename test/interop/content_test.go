//go:build interop

package interop

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// requireEqual fails the test unless both databases are whole, hold at least one
// row, and have the same schema and the same rows. Debian's sqlite3, an SQLite
// that shares no code with the driver, checks the restored one as well.
func requireEqual(t *testing.T, source, restored string) {
	t.Helper()
	want, rows := content(t, source)
	got, _ := content(t, restored)
	if rows == 0 {
		t.Errorf("%s has no rows: the comparison would say nothing", source)
	}
	keys := slices.Sorted(maps.Keys(want))
	for key := range got {
		if _, ok := want[key]; !ok {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if want[key] != got[key] {
			t.Errorf("%s\n  source   %s: %s\n  restored %s: %s", key, source, want[key], restored, got[key])
		}
	}
	if out := sqlite3(t, restored, "PRAGMA integrity_check"); out != "ok" {
		t.Errorf("sqlite3 finds %s damaged: %s", restored, out)
	}
}

// content describes what a database holds, whatever page it is on: the SQL of
// each object of the schema, and for each table the number of its rows and their
// hash, rowids included. The second result is the number of all rows.
func content(t *testing.T, path string) (map[string]string, int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if check := query(t, db, "PRAGMA integrity_check"); !slices.Equal(check, []string{"ok"}) {
		t.Fatalf("%s is damaged: %q", path, check)
	}
	found, total := map[string]string{}, 0
	for _, object := range query(t, db, `SELECT type || ' ' || name || char(10) || ifnull(sql, '') FROM sqlite_schema`) {
		name, text, _ := strings.Cut(object, "\n")
		found[name] = text
	}
	for _, pragma := range []string{"user_version", "application_id", "encoding"} {
		found[pragma] = strings.Join(query(t, db, "PRAGMA "+pragma), " ")
	}
	for _, table := range query(t, db, `SELECT name FROM pragma_table_list
			WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite_schema'`) {
		// quote() tells 1 from '1' and shows a real to its last digit.
		columns := query(t, db, `SELECT 'quote("' || replace(name, '"', '""') || '")' FROM pragma_table_info(?)`, table)
		var withoutRowID bool
		if err := db.QueryRow(`SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?`, table).Scan(&withoutRowID); err != nil {
			t.Fatal(err)
		}
		if !withoutRowID {
			columns = append(columns, "rowid")
		}
		rows := query(t, db, fmt.Sprintf(`SELECT concat_ws(',', %s) FROM "%s"`,
			strings.Join(columns, ", "), strings.ReplaceAll(table, `"`, `""`)))
		slices.Sort(rows)
		sum := sha256.New()
		for _, row := range rows {
			fmt.Fprintf(sum, "%d:%s\n", len(row), row)
		}
		found["rows of "+table] = fmt.Sprintf("%d rows, sha256 %x", len(rows), sum.Sum(nil))
		total += len(rows)
	}
	return found, total
}

// query returns the only column of a query's rows.
func query(t *testing.T, db *sql.DB, text string, args ...any) (values []string) {
	t.Helper()
	rows, err := db.Query(text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatalf("%s: %v", text, errors.Join(err, rows.Close()))
		}
		values = append(values, v)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return values
}

// sqlite3 runs statements on a database in another process, and returns what
// they print.
func sqlite3(t *testing.T, path, statements string) string {
	t.Helper()
	return strings.TrimSpace(run(t, time.Minute, environ(), statements+"\n;", "sqlite3", "-batch", "-bail",
		"-cmd", ".timeout 10000", path))
}
