package multidb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// newNulls is a replica with a database whose column became NOT NULL when it had
// NULLs.
func newNulls(t *testing.T) (rep *multidbtest.Replica, db multidb.Database) {
	t.Helper()
	root := newTree(t, 1, 1)
	path := filepath.Join(root, "project0/databases/db0.db")
	c, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(`CREATE TABLE late(v); INSERT INTO late VALUES(NULL),(1),(NULL); PRAGMA writable_schema=ON;
		UPDATE sqlite_schema SET sql='CREATE TABLE late(v NOT NULL)' WHERE name='late'`)
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	rep = multidbtest.NewReplica()
	f := start(t, root, multidb.WithReplica(rep))
	f.sync("project0/db0")
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	db, _ = multidb.Glob(pattern(root)).Locate("project0/db0")
	return rep, db
}

const nulls = "NULL value in late.v (2 times)"

func TestARestoreTellsWhatTheCheckWarnsOf(t *testing.T) {
	rep, db := newNulls(t)
	for check, want := range map[multidb.IntegrityCheck][]string{
		multidb.IntegrityFull: {nulls}, multidb.IntegrityQuick: {nulls}, multidb.IntegrityNone: nil,
	} {
		out := filepath.Join(t.TempDir(), "out.db")
		var got []string
		err := multidb.RestoreFrom(t.Context(), rep, db, multidb.RestoreOptions{OutputPath: out, IntegrityCheck: check,
			Warn: func(w string) {
				if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%v: the file is there before the warning: %v", check, err)
				}
				got = append(got, w)
			}})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %q, %v; want %q", check, got, err, want)
		}
		if left := rows(t, out); fmt.Sprint(left) != "[0 1 2]" {
			t.Errorf("%v: %v", check, left)
		}
	}
}

func TestARestoreOnOpenTellsWhatTheCheckWarnsOf(t *testing.T) {
	rep, db := newNulls(t)
	for check, want := range map[multidb.IntegrityCheck]int{multidb.IntegrityFull: 1, multidb.IntegrityNone: 0} {
		f := start(t, t.TempDir(), multidb.WithReplica(rep), multidb.WithRestoreOnOpen(), multidb.WithIntegrityCheck(check))
		h, err := f.m.Acquire(t.Context(), db.ID)
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
		n := f.events.count(func(ev multidb.Event) bool {
			return ev.Type == multidb.EventIntegrity && ev.ID == db.ID && ev.Err.Error() == nulls
		})
		if n != want {
			t.Errorf("%v: %d events, want %d", check, n, want)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAManagerWithoutWarnLogsTheWarnings(t *testing.T) {
	rep, db := newNulls(t)
	var log syncBuffer
	f := start(t, filepath.Dir(filepath.Dir(filepath.Dir(db.Path))), multidb.WithReplica(rep), multidb.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err := f.m.Restore(t.Context(), db.ID, multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "out.db")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log.Bytes()), nulls) {
		t.Errorf("the log lacks it:\n%s", log.Bytes())
	}
}

func TestAnIntegrityCheckIsReadAsItIsWritten(t *testing.T) {
	for _, want := range []multidb.IntegrityCheck{multidb.IntegrityFull, multidb.IntegrityQuick, multidb.IntegrityNone} {
		text, err := want.MarshalText()
		got := multidb.IntegrityCheck(-1)
		if err = errors.Join(err, got.UnmarshalText(text)); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	const wrong = multidb.IntegrityCheck(3)
	_, marshal := wrong.MarshalText()
	_, option := multidb.New(multidb.WithDiscoverer(multidb.Static()), multidb.WithIntegrityCheck(wrong))
	for what, err := range map[string]error{
		"a text":      new(multidb.IntegrityCheck).UnmarshalText([]byte("fast")),
		"a number":    marshal,
		"the option":  option,
		"RestoreFrom": multidb.RestoreFrom(t.Context(), multidbtest.NewReplica(), multidb.Database{ID: "a"}, multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "a"), IntegrityCheck: wrong}),
	} {
		if !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
