package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb"
)

// running starts a replicate that brings back what is missing.
func (f *fleet) running(t *testing.T, more string) (cfg string) {
	t.Helper()
	cfg = f.configure(t, t.TempDir())
	b, err := os.ReadFile(cfg)
	if err == nil {
		err = os.WriteFile(cfg, append(b, more...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	t.Cleanup(func() {
		run.signal(syscall.SIGTERM)
		run.want(0)
	})
	return cfg
}

func one(t *testing.T, code int, args ...string) map[string]any {
	t.Helper()
	r := invoke(t, nil, args...).start().want(code).records()
	if len(r) != 1 {
		t.Fatalf("%q: %v", args, r)
	}
	return r[0]
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestADatabaseIsRemovedUndeletedForkedRenamedAndErased(t *testing.T) {
	f := newFleet(t, 1, 3)
	cfg := f.running(t, "")
	a, b, moved, copied := f.ids[0], f.ids[1], multidb.ID("project9/moved"), multidb.ID("project9/copied")
	rows := rowsOf(t, f.path(a))

	t.Run("a dry run changes nothing", func(t *testing.T) {
		for _, args := range [][]string{{"remove", string(a)}, {"evict", string(a)}, {"rename", string(a), string(moved)}, {"erase", string(a)}} {
			r := one(t, 0, append(args, "-dry-run", "-config", cfg)...)
			if would, _ := r["would"].(string); r["done"] != false || !strings.Contains(would, f.path(a)) {
				t.Errorf("%q: %v", args, r)
			}
		}
		invoke(t, nil, "rename", string(a), string(b), "-dry-run", "-config", cfg).start().want(1, "exists")
		if !exists(f.path(a)) {
			t.Error("the file has gone")
		}
	})
	t.Run("remove and undelete", func(t *testing.T) {
		if r := one(t, 0, "remove", string(a), "-config", cfg); r["done"] != true {
			t.Errorf("%v", r)
		}
		if exists(f.path(a)) {
			t.Error("its file is there")
		}
		l := one(t, 0, "ls", "-removed", "-config", cfg)
		if l["id"] != string(a) || l["removed_at"] == nil || l["erase_after"] == nil {
			t.Errorf("%v", l)
		}
		if x := one(t, 0, "erase", string(a), "-dry-run", "-config", cfg); x["erased"].(map[string]any)["objects"] == 0.0 {
			t.Errorf("a dry run of a removed one: %v", x)
		}
		one(t, 0, "undelete", string(a), "-config", cfg)
		invoke(t, nil, "undelete", string(a), "-config", cfg).start().want(1)
		if r := invoke(t, nil, "ls", "-removed", "-config", cfg).start().want(0).records(); len(r) != 0 {
			t.Errorf("then removed: %v", r)
		}
		if r := invoke(t, nil, "ls", string(a), "-config", cfg).start().want(0).records(); len(r) != 1 || r[0]["evicted"] != true {
			t.Errorf("then: %v", r)
		}
		if got := newest(t, cfg, a); !slices.Equal(got, rows) {
			t.Errorf("it has %q, want %q", got, rows)
		}
	})
	t.Run("fork and rename", func(t *testing.T) {
		want := rowsOf(t, f.path(b))
		if r := one(t, 0, "fork", string(b), string(copied), "-config", cfg); r["to"] != string(copied) {
			t.Errorf("%v", r)
		}
		invoke(t, nil, "fork", string(b), string(copied), "-config", cfg).start().want(1)
		if got := newest(t, cfg, copied); !slices.Equal(got, want) {
			t.Errorf("the copy has %q, want %q", got, want)
		}
		if r := one(t, 0, "rename", string(b), string(moved), "-config", cfg); r["done"] != true {
			t.Errorf("%v", r)
		}
		if exists(f.path(b)) || !slices.Equal(rowsOf(t, f.path(moved)), want) {
			t.Error("the file is not where it should be")
		}
	})
	t.Run("erase needs to be told twice, and proves itself", func(t *testing.T) {
		invoke(t, nil, "erase", string(moved), "-config", cfg).start().want(2, "-yes")
		r := one(t, 0, "erase", "-yes", string(moved), "-config", cfg)
		x, _ := r["erased"].(map[string]any)
		if r["done"] != true || x["complete"] != true || x["objects"] == 0.0 || x["local"] == nil {
			t.Errorf("%v", r)
		}
		r = one(t, 0, "erase", "-yes", string(moved), "-config", cfg)
		if x, _ := r["erased"].(map[string]any); x["objects"] != 0.0 || x["local"] != nil || x["complete"] != true {
			t.Errorf("the second time: %v", r)
		}
		if p := invoke(t, nil, "erase", "-yes", string(moved), "-config", cfg, "-json=false").start().want(0); !strings.Contains(p.stdout.String(), "erased: nothing was there") {
			t.Errorf("the third time: %s", &p.stdout)
		}
		if left, _ := filepath.Glob(f.path(moved) + "*"); len(left) > 0 {
			t.Error(left)
		}
	})
	invoke(t, nil, "remove", "project0/bd2", "-config", cfg).start().want(1, "the nearest: project0/db2")
}

func TestSQLIsExecutedInEveryDatabaseOnce(t *testing.T) {
	f := newFleet(t, 2, 5)
	cfg := f.running(t, "")
	file := func(sql string) string {
		path := filepath.Join(t.TempDir(), "x.sql")
		if err := os.WriteFile(path, []byte(sql), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	add := file("INSERT INTO t (v) VALUES ('migrated'); CREATE TABLE IF NOT EXISTS u (k);")
	each := func(code int, args ...string) (last map[string]any, n int) {
		t.Helper()
		r := invoke(t, nil, append([]string{"each", "-config", cfg}, args...)...).start().want(code).records()
		if len(r) == 0 || r[len(r)-1]["id"] != nil {
			t.Fatalf("%q: %v", args, r)
		}
		return r[len(r)-1], len(r) - 1
	}
	last, n := each(1, "-name", "bad", "-sql", file("INSERT INTO nothing VALUES (1)"))
	if n != 1 || last["failed"] != 1.0 || last["left"] != 9.0 || !strings.Contains(last["stopped"].(string), "first") {
		t.Errorf("a canary: %v", last)
	}
	if last, n := each(0, "-name", "add", "-sql", add, "-pattern", "project0/*"); n != 5 || last["done_all"] != 5.0 {
		t.Errorf("%v", last)
	}
	if last, n := each(0, "-name", "add", "-sql", add, "-parallel", "2"); n != 5 || last["done_all"] != 5.0 || last["skipped"] != 5.0 {
		t.Errorf("then: %v", last)
	}
	if last, n := each(0, "-name", "add", "-sql", add); n != 0 || last["skipped"] != 10.0 {
		t.Errorf("and then: %v", last)
	}
	for _, id := range f.ids {
		if rows := rowsOf(t, f.path(id)); len(rows) != 2 || rows[1] != "2 migrated" {
			t.Errorf("%s: %q", id, rows)
		}
	}
	invoke(t, nil, "each", "-config", cfg, "-name", "add", "-forget").start().want(0)
	for range 2 {
		each(0, "-name", "add", "-sql", add, "-user-version", "7", "-again")
	}
	for _, id := range f.ids {
		if rows := rowsOf(t, f.path(id)); len(rows) != 3 {
			t.Errorf("%s: %q", id, rows)
		}
	}
}
