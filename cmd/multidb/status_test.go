package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb/internal/control"
)

// configureLogged is configure with a fleet log that nothing is unpacked from before the end.
func (f *fleet) configureLogged(t *testing.T, replica string) string {
	t.Helper()
	path := f.configure(t, replica)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, "  fleet-log: {path: logs, unpack-interval: 1h}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStatusSpeaksOfTheFleetLog(t *testing.T) {
	f := newFleet(t, 1, 2)
	cfg := f.configureLogged(t, t.TempDir())
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("fleet log begun")
	var log map[string]any
	for range 200 { // each asks another process
		r := invoke(t, nil, "status", "-config", cfg).start().want(0).records()
		if log, _ = r[0]["fleet_log"].(map[string]any); log["files"] == 2.0 {
			break
		}
	}
	if log["path"] != "logs" || log["epoch"] != 1.0 || log["files"] != 2.0 || log["tails"] != 2.0 || log["fenced"] != false {
		t.Errorf("status: %v", log)
	}
	out := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(0).stdout.String()
	if !strings.Contains(out, "logs, epoch 1: 2 files in ") || !strings.Contains(out, "2 databases not unpacked") {
		t.Errorf("status as a table: %s", out)
	}
	one := invoke(t, nil, "status", "project0/db0", "-config", cfg).start().want(0).records()[0]
	if one["txid"] != "0000000000000001" || one["unpacked_txid"] != nil || one["fleet_log"] != true {
		t.Errorf("status of one: %v", one)
	}
	out = invoke(t, nil, "status", "project0/db0", "-json=false", "-config", cfg).start().want(0).stdout.String()
	if !strings.Contains(out, "0000000000000001 durable, - unpacked to the prefix") {
		t.Errorf("status of one as a table: %s", out)
	}
	run.signal(syscall.SIGTERM)
	run.want(0)
}

func TestAFleetLogThatCannotBeWrittenMakesStatusEndWithThree(t *testing.T) {
	f := newFleet(t, 1, 1)
	replica := t.TempDir()
	if err := os.WriteFile(filepath.Join(replica, "logs"), nil, 0o600); err != nil { // no directory
		t.Fatal(err)
	}
	cfg := f.configureLogged(t, replica)
	run := invoke(t, nil, "replicate", "-config", cfg, "-shutdown-timeout", "5s").start()
	run.await("the fleet log cannot begin")
	p := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(3)
	if out := p.stdout.String(); !strings.Contains(out, "not well: the fleet log") || !strings.Contains(out, "fleet log logs: ") {
		t.Errorf("status: %s", out)
	}
	run.signal(syscall.SIGINT)
	run.want(1, "not durable yet")
}

func TestALogIsToldOfInOneLine(t *testing.T) {
	for want, log := range map[string]control.FleetLog{
		"logs, nothing written yet": {Path: "logs"},
		"logs, epoch 3: 20 files in 4 objects, 1.0 KiB, 5 queued; 6 databases not unpacked, 2.0 KiB in 7 objects": {
			Path: "logs", Epoch: 3, Files: 20, Objects: 4, Bytes: 1 << 10, Queued: 5, Tails: 6, TailBytes: 2 << 10, Pending: 7},
		"fenced by another": {Path: "logs", Epoch: 3, Fenced: true, Error: "fenced by another"},
	} {
		if got := showFleetLog(&log); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
