package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb/internal/control"
)

func TestReplicateShipsWhatOtherProcessesWrite(t *testing.T) {
	f := newFleet(t, 2, 3)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")

	t.Run("a second one on the configuration says so and ends", func(t *testing.T) {
		invoke(t, nil, "replicate", "-config", cfg).start().
			want(1, "another replicate works on this configuration", fmt.Sprint("process ", run.cmd.Process.Pid))
	})
	t.Run("status and ls ask it", func(t *testing.T) {
		r := invoke(t, nil, "status", "-config", cfg).start().want(0).records()
		if len(r) != 1 || r[0]["pid"] != float64(run.cmd.Process.Pid) || r[0]["databases"] != 6.0 || r[0]["healthy"] != true {
			t.Errorf("status: %v", r)
		}
		for _, where := range [][]string{{"-config", cfg}, {"-state-dir", f.stateDir()}} {
			r = invoke(t, nil, append([]string{"ls", "project1/*"}, where...)...).start().want(0).records()
			if len(r) != 3 || r[0]["id"] != "project1/db0" || r[0]["tier"] == nil {
				t.Errorf("ls: %v", r)
			}
		}
		r = invoke(t, nil, "status", "project1/db2", "-config", cfg).start().want(0).records()
		if len(r) != 1 || r[0]["path"] != f.path("project1/db2") {
			t.Errorf("status of one: %v", r)
		}
		invoke(t, nil, "status", "project1/bd2", "-config", cfg).start().want(1, "the nearest: project1/db2")
		invoke(t, nil, "ls", "nothing/*", "-config", cfg).start().want(1, "nothing/*")
		p := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(0)
		if !strings.Contains(p.stdout.String(), "health") {
			t.Errorf("status as a table: %s", &p.stdout)
		}
	})
	for _, id := range f.ids {
		write(t, f.path(id), "INSERT INTO t (v) VALUES ('by another process')")
	}
	run.signal(syscall.SIGTERM)
	run.want(0, "everything is at the replica")
	if _, err := os.Stat(filepath.Join(f.stateDir(), control.Socket)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	invoke(t, nil, "status", "-config", cfg).start().want(1, "no multidb replicate is running", "-offline")
	invoke(t, nil, "status", "-offline", "-config", cfg).start().want(0)
	dir := t.TempDir()
	invoke(t, nil, "restore-all", "-config", cfg, "-o", dir).start().want(0, "6 restored")
	f.equals(t, dir)
}

func TestADatabaseThatIsNotWellMakesStatusEndWithThree(t *testing.T) {
	f := newFleet(t, 1, 2)
	bad := filepath.Join(t.TempDir(), "a file, no directory")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := f.configure(t, bad)
	run := invoke(t, nil, "replicate", "-config", cfg, "-shutdown-timeout", "5s").start()
	run.await("failed")
	p := invoke(t, nil, "status", "-config", cfg).start().want(3)
	r := p.records()
	if len(r) != 1 || r[0]["healthy"] != false || r[0]["worst"] == nil {
		t.Errorf("status: %v", r)
	}
	run.signal(syscall.SIGINT)
	run.want(1, "not durable yet")
}

func TestAStateDirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	if err := os.Mkdir(f.stateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f.stateDir(), 0o777); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "replicate", "-config", cfg).start().want(1, "others can write", "chmod go-w", "-socket=false")
	run := invoke(t, nil, "replicate", "-config", cfg, "-socket=false").start()
	run.await("replicating")
	if err := os.WriteFile(filepath.Join(f.stateDir(), control.Socket), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "status", "-config", cfg).start().want(1, "others can write")
	run.signal(syscall.SIGINT)
	run.want(0)
}

func TestADisabledConfigurationReplicatesNothingAndSaysSo(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg, []byte(strings.Replace(string(text), "multi-db:\n", "multi-db:\n  enabled: false\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "replicate", "-config", cfg).start().want(1, "enabled is false")
	invoke(t, nil, "config", "check", cfg).start().want(0)
}

func TestAResyncIsLoggedOnceWithItsReasonAndItsSize(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	for range 2 {
		run := invoke(t, nil, "replicate", "-config", cfg).start()
		run.await("replicating")
		run.signal(syscall.SIGTERM)
		run.want(0)
		said := run.stderr.String()
		if n := strings.Count(said, "multidb: resync"); n == 1 {
			for _, want := range []string{"level=INFO", "id=project0/db0", `why="its log is gone, and the file has changed"`, "bytes="} {
				if !strings.Contains(said, want) {
					t.Errorf("the log lacks %s:\n%s", want, said)
				}
			}
			return
		} else if n > 1 {
			t.Fatalf("%d lines of one resync:\n%s", n, said)
		}
		write(t, f.path(f.ids[0]), "INSERT INTO t (v) VALUES ('while nobody looks')")
	}
	t.Error("there was no resync")
}
