package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/restoreall"
)

func TestRestoreAllNeedsOnlyTheBucketAndItsCredentials(t *testing.T) {
	f, s := newFleet(t, 20, 10), newStore(t)
	f.ship(t, s.replica(t))
	dir := filepath.Join(t.TempDir(), "new", "machine")

	begin := time.Now()
	p := invoke(t, s.env, "restore-all", "-bucket", "fleet", "-o", dir).start().want(0, "200 restored, 0 failed")
	t.Logf("%.0f tenants a second", 200/time.Since(begin).Seconds())
	f.equals(t, dir)
	if got := p.records(); len(got) != 200 || got[0]["status"] != "restored" {
		t.Errorf("%d records, the first is %v", len(got), got[0])
	}

	t.Run("again, it overwrites nothing", func(t *testing.T) {
		mine := filepath.Join(dir, "project3", "db3.db")
		if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		gone := filepath.Join(dir, "project4", "db4.db")
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		invoke(t, s.env, "restore-all", "-bucket", "fleet", "-path", template, "-o", dir, "-json=false").start().
			want(0)
		if data, err := os.ReadFile(mine); err != nil || string(data) != "mine" {
			t.Errorf("overwritten: %q, %v", data, err)
		}
		if _, err := os.Stat(gone); err != nil {
			t.Error(err)
		}
	})
	t.Run("of a pattern", func(t *testing.T) {
		dir := t.TempDir()
		invoke(t, s.env, "restore-all", "-bucket", "fleet", "-path", "litestream", "-o", dir, "project1*/db7").start().
			want(0, "11 restored")
		invoke(t, s.env, "restore-all", "-bucket", "fleet", "-o", dir, "projekt1/db7").start().
			want(1, `matches projekt1/db7`, "the nearest: project1/db7")
	})
}

// holdAfter lets n LTX files be read and holds every later one until the client
// goes. It says by the channel when it begins to.
func holdAfter(n int64) (func(http.ResponseWriter, *http.Request) bool, <-chan struct{}) {
	var seen atomic.Int64
	held := make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, ".ltx") {
			return true
		}
		switch i := seen.Add(1); {
		case i <= n:
			return true
		case i == n+1:
			close(held)
		}
		<-r.Context().Done()
		return false
	}, held
}

func TestRestoreAllGoesOnAfter(t *testing.T) {
	f, s := newFleet(t, 6, 5), newStore(t)
	f.ship(t, s.replica(t))
	for _, end := range []struct {
		name string
		sig  syscall.Signal
		code int
	}{{"Ctrl-C", syscall.SIGINT, 130}, {"SIGTERM", syscall.SIGTERM, 143}, {"a crash", syscall.SIGKILL, -1}} {
		t.Run(end.name, func(t *testing.T) {
			dir := t.TempDir()
			hold, held := holdAfter(20)
			s.setHold(hold)
			args := []string{"restore-all", "-bucket", "fleet", "-path", template, "-o", dir, "-parallel", "3"}
			p := invoke(t, s.env, args...).start()
			<-held
			invoke(t, s.env, args...).start().want(1, "another restore-all is at work in "+dir)
			p.signal(end.sig)
			p.want(end.code)
			for _, text := range []string{"run the same command to go on", "interrupted", " restored, 0 failed, ", " left"} {
				if end.code > 0 && !strings.Contains(p.stderr.String(), text) {
					t.Errorf("it does not say %q:\n%s", text, &p.stderr)
				}
			}
			left, err := filepath.Glob(filepath.Join(dir, restoreall.WorkName, ".multidb-restore-*"))
			if crashed := end.sig == syscall.SIGKILL; err != nil || crashed != (len(left) > 0) {
				t.Errorf("left behind: %q, %v", left, err)
			}
			s.setHold(nil)
			done, err := filepath.Glob(filepath.Join(dir, "*", "*.db"))
			if err != nil || len(done) == 0 || len(done) >= len(f.ids) {
				t.Fatalf("%d databases were done, %v", len(done), err)
			}
			invoke(t, s.env, append(args, "-timestamp", "1h")...).start().want(1, "unfinished", restoreall.WorkName)
			invoke(t, s.env, args...).start().want(0, " 0 failed")
			f.equals(t, dir)
		})
	}
}

func TestRestoreAllOfAWhileAgoGoesOnWithTheMomentItBeganWith(t *testing.T) {
	f, s := newFleet(t, 4, 4), newStore(t)
	f.ship(t, s.replica(t))
	want := map[multidb.ID][]string{}
	for _, id := range f.ids {
		want[id] = rowsOf(t, f.path(id))
	}
	dir := t.TempDir()
	hold, held := holdAfter(8)
	s.setHold(hold)
	args := []string{"restore-all", "-bucket", "fleet", "-path", template, "-o", dir, "-parallel", "2", "-timestamp", "1ms"}
	p := invoke(t, s.env, args...).start()
	<-held
	p.signal(syscall.SIGINT)
	p.want(130, "run the same command to go on")
	s.setHold(nil)
	for _, id := range f.ids {
		write(t, f.path(id), "INSERT INTO t (v) VALUES ('after it began')")
	}
	f.ship(t, s.replica(t))
	invoke(t, s.env, append(args[:len(args)-1:len(args)-1], "2ms")...).start().want(1, "unfinished")
	invoke(t, s.env, args...).start().want(0, " 0 failed")
	for _, id := range f.ids {
		if got := rowsOf(t, filepath.Join(dir, string(id)+".db")); !slices.Equal(got, want[id]) {
			t.Errorf("%s: %q, want %q", id, got, want[id])
		}
	}
}

func TestRestoreAllIsNotEndedByAReaderThatHasGone(t *testing.T) {
	f := newFleet(t, 5, 10)
	dir := t.TempDir()
	p := invoke(t, nil, "restore-all", "-dir", newDir(t, f), "-path", template, "-o", dir, "-json")
	p.cmd.Stdout = nil
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	firstLine(t, out)
	p.want(0, "50 restored, 0 failed")
	f.equals(t, dir)
}

func TestRestoreAllNamesWhatFailsAndGoesOn(t *testing.T) {
	f := newFleet(t, 3, 3)
	replica := newDir(t, f)
	broken, err := filepath.Glob(filepath.Join(replica, "litestream/project1/db1/ltx/*/*.ltx"))
	if err != nil || len(broken) == 0 {
		t.Fatal(broken, err)
	}
	whole := map[string][]byte{}
	for _, path := range broken {
		if whole[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[path][:len(whole[path])/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	metadata := filepath.Join(replica, "litestream/project2/db2/metadata.json")
	good, err := os.ReadFile(metadata)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(metadata, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := invoke(t, nil, "restore-all", "-dir", replica, "-path", template, "-o", dir).start().
		want(3, "project1/db1: ", "project2/db2: ", "7 restored, 2 failed")
	failed := 0
	for _, r := range p.records() {
		if r["status"] == "failed" && r["error"] != "" {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d of 2 failures are in the records", failed)
	}
	invoke(t, nil, "verify", "-dir", replica, "-path", template).start().want(3, "project1/db1: ", "7 restore, 2 do not")

	for path, data := range whole {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(metadata, good, 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "restore-all", "-dir", replica, "-path", template, "-o", dir).start().
		want(0, "2 restored, 7 existed, 0 failed")
	f.equals(t, dir)
	if v := invoke(t, nil, "verify", "-dir", replica).start().want(0).records(); len(v) != 9 || v[0]["status"] != "ok" {
		t.Errorf("verify: %v", v)
	}
}

func TestOneIDAtTwoPlacesIsReportedNotMixed(t *testing.T) {
	f := newFleet(t, 1, 1)
	replica := newDir(t, f)
	if err := os.CopyFS(filepath.Join(replica, "copy"), os.DirFS(filepath.Join(replica, "litestream"))); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "restore-all", "-dir", replica, "-o", t.TempDir()).start().want(3, "a second prefix has this ID", "1 restored, 1 failed")
	invoke(t, nil, "restore", "-dir", replica, "project0/db0", "-o", "x.db").start().want(1, "2 prefixes", "-path")
	invoke(t, nil, "restore", "-dir", replica, "-path", "copy", "project0/db0", "-o", "x.db").start().want(0)
}

func TestAnEmptyOrUnknownReplicaIsNoSuccess(t *testing.T) {
	s := newStore(t)
	invoke(t, s.env, "restore-all", "-bucket", "fleet", "-o", t.TempDir()).start().want(1, "no backup", "s3://fleet")
	invoke(t, s.env, "restore-all", "-bucket", "other", "-o", t.TempDir()).start().want(1, `bucket "other" does not exist`)
	invoke(t, nil, "restore-all", "-dir", "missing", "-o", t.TempDir()).start().want(1, "no such file")
}

func TestAKeyThatMayReadButNotListIsToldWhatIsMissing(t *testing.T) {
	f, s := newFleet(t, 1, 1), newStore(t)
	f.ship(t, s.replica(t))
	s.setHold(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("list-type") {
			return true
		}
		w.WriteHeader(http.StatusForbidden)
		return false
	})
	for _, args := range [][]string{{"restore-all", "-o", "out"}, {"ls"}, {"verify"}, {"restore", "project0/db0", "-o", "x.db"}} {
		invoke(t, s.env, append(args, "-bucket", "fleet")...).start().want(1, "s3:ListBucket")
	}
}

func TestADryRunOfRestoreAllSaysWhereToAndTouchesNothing(t *testing.T) {
	f := newFleet(t, 2, 3)
	replica, dir := newDir(t, f), filepath.Join(t.TempDir(), "new")
	args := []string{"restore-all", "-dir", replica, "-path", template, "-o", dir, "-dry-run"}
	got := invoke(t, nil, args...).start().want(0, "6 would be restored, 0 failed").records()
	if len(got) != 6 || got[0]["status"] != "planned" || got[0]["bytes"].(float64) < 100 || got[0]["path"] != filepath.Join(dir, string(got[0]["id"].(string))+".db") {
		t.Errorf("%d records, the first is %v", len(got), got[0])
	}
	p := invoke(t, nil, append(args, "-json=false", "project1/*")...).start().want(0)
	if out := p.stdout.String(); strings.Count(out, "\n") != 5 || !strings.Contains(out, filepath.Join(dir, "project1/db2.db")) || !strings.Contains(out, "3 would be restored, 0 failed\n") {
		t.Errorf("as a table:\n%s", out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("it has made something: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(replica, "litestream/project1/db1/ltx")); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, args...).start().want(3, "project1/db1: ", "5 would be restored, 1 failed")
}
