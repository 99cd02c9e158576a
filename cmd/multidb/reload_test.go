package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rewrite changes the configuration.
func rewrite(t *testing.T, cfg, from, to string) {
	t.Helper()
	text, err := os.ReadFile(cfg)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%v, no %q in:\n%s", err, from, text)
	}
	if err := os.WriteFile(cfg, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tierOf(t *testing.T, cfg, id string) string {
	t.Helper()
	tier, _ := one(t, 0, "status", id, "-config", cfg)["tier"].(string)
	return tier
}

func TestSIGHUPTakesUpPatternsAndPolicies(t *testing.T) {
	f, second := newFleet(t, 1, 2), newFleet(t, 0, 0)
	second.add(t, "project7/db7")
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("starting") // during the start
	run.signal(syscall.SIGHUP)
	run.await("reloaded")

	rewrite(t, cfg, f.pattern+`"]`, f.pattern+`", "`+second.pattern+`"]
  policies: [{match: "project0/db0", hot: never}]`)
	run.signal(syscall.SIGHUP)
	run.await("databases=3")
	invoke(t, nil, "status", "project7/db7", "-config", cfg).start().want(0)
	write(t, second.path("project7/db7"), "INSERT INTO t (v) VALUES ('after the reload')")
	// What is written becomes hot, but for the one whose policy says never.
	for _, path := range []string{f.path("project0/db0"), f.path("project0/db1")} {
		write(t, path, "INSERT INTO t (v) VALUES ('after the reload')")
	}
	for range 200 { // each asks another process
		if tierOf(t, cfg, "project0/db0") != "cold" && tierOf(t, cfg, "project0/db1") == "hot" {
			break
		}
	}
	if a, b := tierOf(t, cfg, "project0/db0"), tierOf(t, cfg, "project0/db1"); a != "warm" || b != "hot" {
		t.Errorf("with hot: never one is %s, and without it the other %s", a, b)
	}

	rewrite(t, cfg, `, "`+second.pattern+`"]`, "]") // and without it again
	run.signal(syscall.SIGHUP)
	run.awaitTimes("msg=reloaded", 3)
	invoke(t, nil, "status", "project7/db7", "-config", cfg).start().want(1, "project7/db7")
	run.signal(syscall.SIGTERM)
	run.want(0, "everything is at the replica")
	if n := strings.Count(run.stderr.String(), "msg=reloaded"); n != 3 {
		t.Errorf("reloaded %d times:\n%s", n, &run.stderr)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	invoke(t, nil, "restore", "-dir", replica, "-path", template, "project7/db7", "-o", out).start().want(0)
	if got := rowsOf(t, out); len(got) != 2 {
		t.Errorf("restored %q", got)
	}
}

func TestSIGHUPKeepsTheConfigurationWhereTheNewOneIsWrong(t *testing.T) {
	f := newFleet(t, 1, 1)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")

	rewrite(t, cfg, "sync-interval: 20ms", "sync-intervall: 20ms")
	run.signal(syscall.SIGHUP)
	run.await("kept the configuration: the new one is wrong")
	run.await("multidb.yaml:8:5")
	rewrite(t, cfg, "multi-db:\n", "multi-db:\n  enabled: false\n")
	rewrite(t, cfg, "sync-intervall: 20ms", "sync-interval: 20ms")
	run.signal(syscall.SIGHUP)
	run.await("enabled is false")

	// It is right by itself, and cannot start: its root is missing.
	rewrite(t, cfg, "  enabled: false\n", "")
	rewrite(t, cfg, `patterns: ["`, `patterns: ["/nowhere/{{project}}/{{database}}.db", "`)
	run.signal(syscall.SIGHUP)
	run.await("kept the configuration: the new one does not start")

	write(t, f.path("project0/db0"), "INSERT INTO t (v) VALUES ('by the former configuration')")
	invoke(t, nil, "status", "-state-dir", f.stateDir()).start().want(0)
	run.signal(syscall.SIGTERM)
	run.want(0, "everything is at the replica")
	dir := t.TempDir()
	invoke(t, nil, "restore-all", "-dir", replica, "-path", template, "-o", dir).start().want(0)
	f.equals(t, dir)
}

func TestSIGHUPDoesNotKillWhatStopsOrReloads(t *testing.T) {
	f := newFleet(t, 1, 2)
	bad := filepath.Join(t.TempDir(), "a file, no directory")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := invoke(t, nil, "replicate", "-config", f.configure(t, bad), "-shutdown-timeout", "5s").start()
	run.await("failed")
	run.signal(syscall.SIGHUP)
	run.signal(syscall.SIGHUP)
	run.await("reloading")
	run.signal(syscall.SIGTERM)
	for range 3 {
		run.signal(syscall.SIGHUP)
	}
	run.want(1, "not durable yet")
}
