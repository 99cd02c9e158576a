package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// elsewhere restores databases to another machine, which goes on from there.
func (f *fleet) elsewhere(t *testing.T, cfg, replica string, ids ...multidb.ID) *fleet {
	t.Helper()
	o := &fleet{root: t.TempDir(), ids: ids}
	o.pattern = filepath.Join(o.root, "{{project}}", "databases", "{{database}}.db")
	for _, id := range ids {
		invoke(t, nil, "restore", string(id), "-config", cfg, "-o", o.path(id)).start().want(0)
	}
	o.shipTo(t, replica) // it has the newest state, so it goes on
	for _, id := range ids {
		write(t, o.path(id), "INSERT INTO t (v) VALUES ('elsewhere')")
	}
	o.shipTo(t, replica)
	return o
}

// fenced waits until a running replicate has so many fenced databases.
func fenced(t *testing.T, cfg string, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		p := invoke(t, nil, "adopt", "-all", "-dry-run", "-config", cfg).start().want(0)
		if r := p.records(); len(r) == n {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("fenced: %v, want %d", r, n)
		}
	}
}

func newest(t *testing.T, cfg string, id multidb.ID) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "newest.db")
	invoke(t, nil, "restore", string(id), "-config", cfg, "-o", out).start().want(0)
	return rowsOf(t, out)
}

func TestAFencedDatabaseIsTakenOverOrAdoptedWithoutARestart(t *testing.T) {
	f := newFleet(t, 1, 4)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	run.signal(syscall.SIGTERM)
	run.want(0)
	a, b, c, whole := f.ids[0], f.ids[1], f.ids[2], f.ids[3]
	other := f.elsewhere(t, cfg, replica, a, b, c)
	theirs := rowsOf(t, other.path(a))
	for _, id := range f.ids {
		write(t, f.path(id), "INSERT INTO t (v) VALUES ('here')")
	}
	ours := rowsOf(t, f.path(a))

	for _, verb := range []string{"takeover", "adopt", "handover"} {
		invoke(t, nil, verb, "-all", "-config", cfg).start().want(1, "no multidb replicate is running", "start it")
	}
	run = invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	fenced(t, cfg, 3)

	t.Run("a dry run names them and both writers, and does nothing", func(t *testing.T) {
		for _, verb := range []string{"takeover", "adopt"} {
			r := invoke(t, nil, verb, "-all", "-dry-run", "-config", cfg).start().want(0).records()
			if len(r) != 3 {
				t.Fatalf("%s: %v", verb, r)
			}
			for _, one := range r {
				why, _ := one["why"].(string)
				would, _ := one["would"].(string)
				if one["fenced"] != true || one["done"] != false || one["dry_run"] != true || strings.Count(why, "node ") < 2 || !strings.Contains(would, f.root) {
					t.Errorf("%s: %v", verb, one)
				}
			}
		}
		r := invoke(t, nil, "adopt", string(whole), "-dry-run", "-config", cfg).start().want(0).records()
		if len(r) != 1 || r[0]["fenced"] != false || !strings.Contains(r[0]["would"].(string), "not fenced") {
			t.Errorf("one that is well: %v", r)
		}
		fenced(t, cfg, 3)
		if got := rowsOf(t, f.path(a)); !slices.Equal(got, ours) {
			t.Errorf("the local file has %q now", got)
		}
		if got := newest(t, cfg, a); !slices.Equal(got, theirs) {
			t.Errorf("the replica has %q now", got)
		}
	})
	t.Run("adopt says where the local file is kept", func(t *testing.T) {
		p := invoke(t, nil, "adopt", string(a), "-state-dir", f.stateDir(), "-json=false").start().want(0)
		_, kept, _ := strings.Cut(p.stdout.String(), filepath.Dir(f.path(a)))
		kept, _, _ = strings.Cut(filepath.Dir(f.path(a))+kept, " ")
		if got := rowsOf(t, kept); !slices.Equal(got, ours) || !strings.Contains(kept, ".multidb-kept") {
			t.Errorf("kept as %s: %q, want %q\n%s", kept, got, ours, &p.stdout)
		}
		if got := rowsOf(t, f.path(a)); !slices.Equal(got, theirs) {
			t.Errorf("the local file has %q, want %q", got, theirs)
		}
	})
	t.Run("takeover makes the local file the newest state", func(t *testing.T) {
		r := invoke(t, nil, "takeover", string(b), "-config", cfg).start().want(0).records()
		if len(r) != 1 || r[0]["id"] != string(b) || r[0]["done"] != true || r[0]["txid"] == nil {
			t.Fatalf("%v", r)
		}
		if got, want := newest(t, cfg, b), rowsOf(t, f.path(b)); !slices.Equal(got, want) {
			t.Errorf("the replica has %q, want %q", got, want)
		}
	})
	t.Run("an ID that is not known is named with the nearest, and makes 3 of it", func(t *testing.T) {
		invoke(t, nil, "adopt", "project0/bd1", "-config", cfg).start().want(1, "the nearest: project0/db1")
		r := invoke(t, nil, "takeover", "project0/bd1", string(b), "-config", cfg).start().want(3, "the nearest: project0/db1").records()
		if len(r) != 2 {
			t.Errorf("%v", r)
		}
	})
	t.Run("-all means what is fenced", func(t *testing.T) {
		r := invoke(t, nil, "adopt", "-all", "-config", cfg).start().want(0).records()
		if len(r) != 1 || r[0]["id"] != string(c) || r[0]["done"] != true {
			t.Fatalf("%v", r)
		}
		kept, _ := r[0]["kept"].(string)
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
		r = invoke(t, nil, "takeover", "-all", "-config", cfg).start().want(0, "no database is fenced").records()
		if len(r) != 0 {
			t.Errorf("%v", r)
		}
	})
	t.Run("handover ships everything, and the next machine goes on", func(t *testing.T) {
		for _, id := range f.ids {
			write(t, f.path(id), "INSERT INTO t (v) VALUES ('last')")
		}
		r := invoke(t, nil, "handover", "-all", "-config", cfg).start().want(0).records()
		if len(r) != len(f.ids) {
			t.Fatalf("%v", r)
		}
		for _, id := range f.ids {
			if got, want := newest(t, cfg, id), rowsOf(t, f.path(id)); !slices.Equal(got, want) {
				t.Errorf("%s: the replica has %q, want %q", id, got, want)
			}
		}
		f.elsewhere(t, cfg, replica, f.ids...)
	})
	run.signal(syscall.SIGTERM)
	run.want(0)
}
