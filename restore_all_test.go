package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// sixShipped is a fleet of two projects of three databases, at a file replica by now. What is
// in a fleet log is not unpacked.
func sixShipped(t *testing.T, opts ...multidb.Option) (*fleet, multidb.ReplicaFactory, []string) {
	t.Helper()
	rep, err := multidb.NewFileReplica(t.TempDir(), "{{project}}/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, newTree(t, 2, 3), append(opts, multidb.WithReplica(rep))...)
	f.insert("project1/db2", "x")
	if err := f.m.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for p := range 2 {
		for d := range 3 {
			ids = append(ids, fmt.Sprintf("project%d/db%d", p, d))
		}
	}
	return f, rep, ids
}

func logAt(path string) multidb.Option {
	return multidb.WithFleetLog(multidb.FleetLogConfig{Path: path, UnpackInterval: time.Hour})
}

func wantRestored(t *testing.T, dir string, ids []string) {
	t.Helper()
	for _, id := range ids {
		want := []string{"0", "1", "2"}
		if id == "project1/db2" {
			want = append(want, "x")
		}
		if got := rows(t, filepath.Join(dir, id+".db")); !slices.Equal(got, want) {
			t.Errorf("%s: restored %q, want %q", id, got, want)
		}
	}
}

func TestRestoreAllFromNeedsOnlyTheReplicaAndGoesOnWhereItWas(t *testing.T) {
	for name, opts := range map[string][]multidb.Option{
		"prefixes": nil, "fleet log": {logAt("fleet")},
	} {
		t.Run(name, func(t *testing.T) {
			_, rep, ids := sixShipped(t, opts...)
			dir := filepath.Join(t.TempDir(), "new", "machine")
			var told []string
			begun := 0
			opt := multidb.RestoreAllOptions{Dir: dir, OnProgress: func(p multidb.RestoreAllProgress) {
				if p.Status == "" {
					begun = p.Todo
					return
				}
				told = append(told, fmt.Sprint(p.Database.ID, " ", p.Status))
			}}
			r, err := multidb.RestoreAllFrom(t.Context(), rep, opt)
			if err != nil || r != (multidb.RestoreAllResult{Restored: 6}) || begun != 6 || len(told) != 6 || !slices.Contains(told, "project1/db0 restored") {
				t.Fatalf("%+v, %v, %d to do, told %v", r, err, begun, told)
			}
			wantRestored(t, dir, ids)
			if err := os.Remove(filepath.Join(dir, "project0/db1.db")); err != nil {
				t.Fatal(err)
			}
			told = nil
			r, err = multidb.RestoreAllFrom(t.Context(), rep, opt)
			if err != nil || r != (multidb.RestoreAllResult{Restored: 1, Existed: 5}) || !slices.Contains(told, "project0/db1 restored") || !slices.Contains(told, "project0/db0 exists") {
				t.Fatalf("again: %+v, %v, told %v", r, err, told)
			}
			wantRestored(t, dir, ids)
		})
	}
}

func TestADryRunOfRestoreAllSaysHowMuchItWouldReadAndMakesNothing(t *testing.T) {
	_, rep, ids := sixShipped(t)
	dir := filepath.Join(t.TempDir(), "none")
	var told []string
	r, err := multidb.RestoreAllFrom(t.Context(), rep, multidb.RestoreAllOptions{Dir: dir, Pattern: "project1/*", DryRun: true,
		OnProgress: func(p multidb.RestoreAllProgress) {
			if p.Status == "" {
				return
			}
			if p.Bytes < 100 || p.Path != filepath.Join(dir, string(p.Database.ID)+".db") || p.Status != multidb.RestorePlanned {
				t.Errorf("%+v", p)
			}
			told = append(told, string(p.Database.ID))
		}})
	slices.Sort(told)
	if err != nil || r != (multidb.RestoreAllResult{Planned: 3}) || !slices.Equal(told, ids[3:]) {
		t.Errorf("%+v, %v, told %v", r, err, told)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it has made something: %v", err)
	}
	r, err = multidb.RestoreAllFrom(t.Context(), rep, multidb.RestoreAllOptions{Dir: dir, DryRun: true, Timestamp: time.Unix(1e9, 0)})
	if !errors.Is(err, multidb.ErrNoBackup) || r != (multidb.RestoreAllResult{Failed: 6}) {
		t.Errorf("of a moment before there was anything: %+v, %v", r, err)
	}
}

func TestAManagerRestoresAllThatItsReplicaHas(t *testing.T) {
	f, _, ids := sixShipped(t, logAt("elsewhere"))
	dir := t.TempDir()
	if r, err := f.m.RestoreAll(t.Context(), multidb.RestoreAllOptions{Dir: dir}); err != nil || r.Restored != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantRestored(t, dir, ids)
}

func TestRestoreAllNamesWhatFailsAndGoesOn(t *testing.T) {
	_, rep, ids := sixShipped(t)
	broken := func(yield func(multidb.Database, error) bool) {
		for db, err := range multidb.ListTenants(t.Context(), rep) {
			if !yield(db, err) {
				return
			}
		}
		if !yield(multidb.Database{ID: "no/backup", Vars: []multidb.Var{{Name: "project", Value: "no"}, {Name: "database", Value: "backup"}}}, nil) {
			return
		}
		yield(multidb.Database{}, &multidb.Error{Op: "list", ID: "not/listed", Err: multidb.ErrDamaged})
	}
	dir := t.TempDir()
	r, err := multidb.RestoreAllFrom(t.Context(), rep, multidb.RestoreAllOptions{Dir: dir, Databases: broken})
	var all *multidb.AllError
	if r != (multidb.RestoreAllResult{Restored: 6, Failed: 2}) || !errors.As(err, &all) || all.Op != "restore" || all.Count != 2 ||
		all.Stopped != nil || strings.Count(err.Error(), `"no/backup"`) != 1 || !errors.Is(err, multidb.ErrNoBackup) || !errors.Is(err, multidb.ErrDamaged) {
		t.Errorf("%+v, %v", r, err)
	}
	wantRestored(t, dir, ids)
}

func TestRestoreAllThatIsEndedSaysSo(t *testing.T) {
	_, rep, _ := sixShipped(t)
	told := errors.New("told to")
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	r, err := multidb.RestoreAllFrom(ctx, rep, multidb.RestoreAllOptions{Dir: dir, Parallel: 1, OnProgress: func(p multidb.RestoreAllProgress) {
		if p.Restored == 2 {
			cancel(told)
		}
	}})
	var all *multidb.AllError
	if !errors.Is(err, told) || !errors.As(err, &all) || all.Count != 0 || r.Restored != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = multidb.RestoreAllFrom(t.Context(), rep, multidb.RestoreAllOptions{Dir: dir}); err != nil || r.Restored != 4 || r.Existed != 2 {
		t.Errorf("it goes on with %+v, %v", r, err)
	}
}

func TestRestoreAllOfNothingIsNoSuccessAndWrongOptionsAreRefused(t *testing.T) {
	_, rep, _ := sixShipped(t)
	_, err := multidb.RestoreAllFrom(t.Context(), rep, multidb.RestoreAllOptions{Dir: t.TempDir(), Pattern: "project1/bd2"})
	if !errors.Is(err, multidb.ErrNotFound) || !strings.Contains(err.Error(), "project1/db2") {
		t.Errorf("none matches: %v", err)
	}
	empty, err := multidb.NewFileReplica(t.TempDir(), "{{project}}/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := multidb.RestoreAllFrom(t.Context(), empty, multidb.RestoreAllOptions{Dir: t.TempDir()}); !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("there is none: %v", err)
	}
	mistyped, err := multidb.NewFileReplica(filepath.Join(t.TempDir(), "mistyped"), "{{project}}/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := multidb.RestoreAllFrom(t.Context(), mistyped, multidb.RestoreAllOptions{Dir: t.TempDir()}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	unlisted := struct{ multidb.ReplicaFactory }{multidbtest.NewReplica()}
	if _, err := multidb.RestoreAllFrom(t.Context(), unlisted, multidb.RestoreAllOptions{Dir: t.TempDir()}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("it cannot be listed: %v", err)
	}
	for want, opt := range map[string]multidb.RestoreAllOptions{
		"Dir":            {},
		"Pattern":        {Dir: "x", Pattern: "["},
		"Parallel":       {Dir: "x", Parallel: 1001},
		"Ago":            {Dir: "x", Ago: time.Hour, Timestamp: time.Now()},
		"IntegrityCheck": {Dir: "x", IntegrityCheck: 9},
	} {
		if _, err := multidb.RestoreAllFrom(t.Context(), rep, opt); !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
