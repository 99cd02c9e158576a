package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// tree is what there is below a directory, but not what a process keeps for itself.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".run"):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "-shm"):
			all[path] = "there"
			return nil
		}
		b, err := os.ReadFile(path)
		info, statErr := d.Info()
		if err == nil && statErr == nil {
			all[path] = fmt.Sprintf("%x of %v", sha256.Sum256(b), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestADryRunTouchesNothingAndSaysWhatWouldBeDone(t *testing.T) {
	f, s := newFleet(t, 1, 3), newStore(t)
	cfg := filepath.Join(t.TempDir(), "multidb.yaml")
	text := fmt.Sprintf(`multi-db:
  patterns: [%q]
  state-dir: %q
  max-disk: 1GiB
  replica-template: {type: s3, bucket: fleet, path: %q, endpoint: %q, region: us-east-1, access-key-id: id, secret-access-key: secret, sync-interval: 20ms}
`, f.pattern, f.stateDir(), template, s.url)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	t.Cleanup(func() {
		run.signal(syscall.SIGTERM)
		run.want(0)
	})
	a, b, gone := string(f.ids[0]), string(f.ids[1]), string(f.ids[2])
	one(t, 0, "remove", gone, "-config", cfg)
	invoke(t, nil, "handover", "-all", "-config", cfg).start().want(0) // everything is shipped, and tidied up

	var mu sync.Mutex
	var writes []string // the log of operations
	s.setHold(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			mu.Lock()
			defer mu.Unlock()
			writes = append(writes, r.Method+" "+r.URL.Path)
		}
		return true
	})
	before := tree(t, f.root)
	for _, tc := range []struct {
		args []string
		says []string
	}{
		{[]string{"takeover", a}, []string{"newest state"}},
		{[]string{"adopt", a}, []string{f.path(f.ids[0]), "aside"}},
		{[]string{"handover", a}, []string{"would ship", "litestream/" + a}},
		{[]string{"evict", a}, []string{"would ship", "delete " + f.path(f.ids[0])}},
		{[]string{"remove", a}, []string{"delete " + f.path(f.ids[0]), "undelete"}},
		{[]string{"undelete", gone}, []string{f.path(f.ids[2])}},
		{[]string{"erase", a}, []string{"would erase", f.path(f.ids[0])}},
		{[]string{"erase", gone}, []string{"would erase"}},
		{[]string{"rename", a, "project0/new"}, []string{f.path(f.ids[0]), f.path("project0/new"), "litestream/project0/new"}},
		{[]string{"fork", a, "project0/new"}, []string{"would copy the newest state", "litestream/project0/new"}},
		{[]string{"fork", gone, "project0/new", "-txid", "1"}, []string{"at transaction 0000000000000001"}},
	} {
		args := append(tc.args, "-dry-run", "-config", cfg)
		r := one(t, 0, args...)
		would, _ := r["would"].(string)
		for _, want := range tc.says {
			if !strings.Contains(would, want) {
				t.Errorf("%q says %q, not %q", tc.args, would, want)
			}
		}
		if r["dry_run"] != true || r["done"] != false || r["error"] != nil {
			t.Errorf("%q: %v", tc.args, r)
		}
		if p := invoke(t, nil, append(args, "-json=false")...).start().want(0); !strings.Contains(p.stdout.String(), would) {
			t.Errorf("%q as a table: %s", tc.args, &p.stdout)
		}
	}
	for _, tc := range []struct {
		args []string
		says string
	}{ // which would fail
		{[]string{"rename", a, b}, "exists"},
		{[]string{"rename", a, gone}, "was removed"},
		{[]string{"rename", a, "nowhere"}, "no pattern of the configuration makes the ID nowhere"},
		{[]string{"fork", a, b}, "exists"},
		{[]string{"fork", a, "project0/new", "-txid", "ff"}, "the newest is transaction"},
		{[]string{"undelete", a}, "it is in service"},
		{[]string{"undelete", "project0/bd1"}, "the nearest: project0/db1"},
		{[]string{"fork", "project0/bd1", "project0/new"}, "the nearest: project0/db1"},
	} {
		invoke(t, nil, append(tc.args, "-dry-run", "-config", cfg)...).start().want(1, tc.says)
	}
	invoke(t, nil, "handover", "-all", "-dry-run", "-config", cfg).start().want(0)
	invoke(t, nil, "takeover", "-all", "-dry-run", "-config", cfg).start().want(0, "nothing to do")
	if after := tree(t, f.root); !maps.Equal(before, after) {
		t.Errorf("the files were\n%v\nand are\n%v", before, after)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(writes) > 0 {
		t.Errorf("to the store: %q", writes)
	}
}

func TestADryRunOfEachSaysTheOrderAndExecutesNothing(t *testing.T) {
	f := newFleet(t, 2, 3)
	cfg := f.running(t, "")
	file := filepath.Join(t.TempDir(), "x.sql")
	if err := os.WriteFile(file, []byte("INSERT INTO t (v) VALUES ('migrated')"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"each", "-config", cfg, "-name", "add", "-sql", file}
	invoke(t, nil, append(args, "-pattern", string(f.ids[0]))...).start().want(0)
	invoke(t, nil, "handover", "-all", "-config", cfg).start().want(0) // everything is shipped, and tidied up
	before := tree(t, f.root)
	for canary, want := range map[string]int{"-1": 0, "1": 1, "2": 2, "9": 5} {
		p := invoke(t, nil, append(args, "-dry-run", "-canary", canary)...).start().want(0, "5 would be done, at most 4 at once; 1 were done before; nothing was executed")
		r := p.records()
		if len(r) != 6 || r[5]["id"] != nil || r[5]["left"] != 5.0 || r[5]["done"] != false || r[5]["canary"] != nil {
			t.Fatalf("-canary %s: %v", canary, r)
		}
		for i, one := range r[:5] {
			if one["id"] != string(f.ids[i+1]) || one["dry_run"] != true || one["done"] != false || (one["canary"] == true) != (i < want) {
				t.Errorf("-canary %s: %d is %v", canary, i, one)
			}
		}
	}
	p := invoke(t, nil, append(args, "-dry-run", "-json=false", "-pattern", "project1/*")...).start().want(0)
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[1], string(f.ids[3])+"  first") || !strings.HasPrefix(lines[2], string(f.ids[4])+"  then") || !strings.HasPrefix(lines[4], "3 would be done") {
		t.Errorf("as a table:\n%s", &p.stdout)
	}
	for _, more := range []string{"-dry-run", "-again"} { // a migration of nothing must not look well
		p := invoke(t, nil, append(args, "-json=false", "-pattern", "projcet1/*", more)...).start().want(1, "no database matches projcet1/*")
		if p.stdout.Len() > 0 {
			t.Errorf("%s of nothing writes %s", more, &p.stdout)
		}
	}
	if after := tree(t, f.root); !maps.Equal(before, after) {
		t.Errorf("the files were\n%v\nand are\n%v", before, after)
	}
	if p := invoke(t, nil, args...).start().want(0); len(p.records()) != 6 {
		t.Errorf("after it the run itself does %s", &p.stdout)
	}
}

func TestADryRunOfAnUnpackWritesNothing(t *testing.T) {
	f := newFleet(t, 1, 2)
	replica := t.TempDir()
	cfg := f.configureLogged(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("fleet log begun")
	for range 200 { // each asks another process
		r := invoke(t, nil, "status", "-config", cfg).start().want(0).records()
		if log, _ := r[0]["fleet_log"].(map[string]any); log["files"] == 2.0 {
			break
		}
	}
	if err := run.cmd.Process.Kill(); err != nil { // so that the log keeps it
		t.Fatal(err)
	}
	run.wait()
	before := tree(t, replica)
	for range 2 {
		p := invoke(t, nil, "unpack", "-all", "-dry-run", "-config", cfg).start().want(0, "2 would be unpacked")
		if r := p.records(); len(r) != 2 || r[0]["status"] != "would unpack" || r[0]["txid"] != "0000000000000001" {
			t.Errorf("%v", r)
		}
	}
	if after := tree(t, replica); !maps.Equal(before, after) {
		t.Errorf("the replica was\n%v\nand is\n%v", before, after)
	}
	invoke(t, nil, "unpack", "-all", "-config", cfg).start().want(0, "2 unpacked")
	invoke(t, nil, "unpack", "-all", "-dry-run", "-config", cfg).start().want(0, "0 would be unpacked, 2 were newest")
}
