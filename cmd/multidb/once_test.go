package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb"
)

// once runs replicate -once, and wants its one line.
func once(t *testing.T, cfg string, code int, line string, texts ...string) {
	t.Helper()
	p := invoke(t, nil, "replicate", "-once", "-config", cfg, "-shutdown-timeout", "5s").start().want(code, texts...)
	if got := p.stdout.String(); got != line+"\n" {
		t.Errorf("it says %q, want %q", got, line)
	}
}

func TestReplicateOnceShipsWhatIsLeftAndEnds(t *testing.T) {
	for name, configure := range map[string]func(*fleet, *testing.T, string) string{
		"by prefixes": (*fleet).configure, "with a fleet log": (*fleet).configureLogged,
	} {
		t.Run(name, func(t *testing.T) {
			f, replica := newFleet(t, 2, 3), t.TempDir()
			cfg := configure(f, t, replica)
			once(t, cfg, 0, "6 databases, 6 shipped, 0 failed")
			once(t, cfg, 0, "6 databases, 0 shipped, 0 failed")
			for _, id := range []multidb.ID{"project0/db1", "project1/db2"} {
				write(t, f.path(id), "INSERT INTO t (v) VALUES ('since')")
			}
			f.add(t, "project2/new")
			once(t, cfg, 0, "7 databases, 3 shipped, 0 failed")
			dir := t.TempDir()
			invoke(t, nil, "restore-all", "-dir", replica, "-path", template, "-fleet-log", "none", "-o", dir).start().want(0, "7 restored, 0 failed")
			f.equals(t, dir)
			if err := os.RemoveAll(f.stateDir()); err != nil {
				t.Fatal(err)
			}
			once(t, cfg, 0, "7 databases, 0 shipped, 0 failed")
		})
	}
}

func TestReplicateOnceThatFailsNamesWhatIsNotShipped(t *testing.T) {
	f := newFleet(t, 1, 2)
	bad := filepath.Join(t.TempDir(), "a file, no directory")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	once(t, f.configure(t, bad), 1, "2 databases, 0 shipped, 2 failed", "project0/db0", "project0/db1", "not durable yet")
}

func TestReplicateOnceOfAMissingRootIsNoSuccess(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg, []byte(strings.ReplaceAll(string(text), f.root, filepath.Join(f.root, "not mounted"))), 0o600); err != nil {
		t.Fatal(err)
	}
	p := invoke(t, nil, "replicate", "-once", "-config", cfg).start().want(1, "not mounted")
	if p.stdout.Len() > 0 {
		t.Errorf("it says %s", &p.stdout)
	}
}

func TestReplicateOnceLeavesARunningReplicateAlone(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	invoke(t, nil, "replicate", "-once", "-config", cfg).start().want(1, "another replicate works on this configuration")
	run.signal(syscall.SIGTERM)
	run.want(0)
}
