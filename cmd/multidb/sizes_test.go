package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/control"
)

func TestStatusAndLsTellOfSizesAndDrills(t *testing.T) {
	f := newFleet(t, 1, 2)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	// Both have a backup before drills begin: one without is passed over for an hour.
	first := invoke(t, nil, "replicate", "-config", cfg).start()
	for range 200 { // each asks another process
		p := invoke(t, nil, "status", "-config", cfg).start()
		if p.wait() == 0 && p.records()[0]["transactions"] == 2.0 {
			break
		}
	}
	first.signal(syscall.SIGTERM)
	first.want(0)
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg, append(text, "  drills: {per-day: 1000000, max-age: 720h}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	var fleet, drills map[string]any
	for range 200 { // each asks another process
		p := invoke(t, nil, "status", "-config", cfg).start()
		if p.wait() != 0 {
			continue // it is not there yet
		}
		fleet = p.records()[0]
		if drills, _ = fleet["drills"].(map[string]any); drills["done"] == 2.0 {
			break
		}
	}
	if drills["done"] != 2.0 || drills["failed"] != 0.0 || drills["unproved"] != 0.0 || drills["failing"] != 0.0 || drills["oldest"] == nil {
		t.Errorf("status: %v", drills)
	}
	bytes, _ := fleet["replica_bytes"].(float64)
	if cost, _ := fleet["monthly_cost_usd"].(float64); bytes == 0 || cost == 0 || fleet["replica_objects"] != 4.0 || fleet["replica_unsized"] != nil {
		t.Errorf("status: %v", fleet)
	}
	out := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(0).stdout.String()
	if !strings.Contains(out, "2 good, 0 failed") || !strings.Contains(out, "in 4 objects at the replica, <0.01 USD a month") {
		t.Errorf("status as a table: %s", out)
	}
	out = invoke(t, nil, "status", "project0/db0", "-json=false", "-config", cfg).start().want(0).stdout.String()
	if !strings.Contains(out, "in 2 objects, <0.01 USD a month") || strings.Contains(out, "proved          -") {
		t.Errorf("status of one as a table: %s", out)
	}
	write(t, f.path("project0/db1"), "CREATE TABLE more(v); INSERT INTO more VALUES(zeroblob(200000))")
	for _, by := range []string{"-sizes", "-sizes=replica", "-sizes=local"} {
		var rows []map[string]any
		for range 200 {
			if rows = invoke(t, nil, "ls", by, "-config", cfg).start().want(0).records(); rows[0]["id"] == "project0/db1" && rows[0]["replica_objects"] != 2.0 {
				break
			}
		}
		if len(rows) != 2 || rows[0]["id"] != "project0/db1" || rows[0]["proved_at"] == nil {
			t.Errorf("ls %s: %v", by, rows)
		}
	}
	out = invoke(t, nil, "ls", "-sizes", "-json=false", "-config", cfg).start().want(0).stdout.String()
	if !strings.Contains(out, "USD A MONTH") || !strings.Contains(out, "<0.01") {
		t.Errorf("ls -sizes as a table: %s", out)
	}
	invoke(t, nil, "ls", "-sizes=large", "-config", cfg).start().want(2, "-sizes=replica")
	run.signal(syscall.SIGTERM)
	run.want(0)
	invoke(t, nil, "ls", "-sizes", "-dir", filepath.Join(replica, "{{id}}")).start().want(2, "-sizes is for a replicate that runs")
}

func TestAFailedDrillIsShownWithWhenTheBackupWasGood(t *testing.T) {
	good := time.Date(2026, 5, 4, 3, 2, 1, 0, time.Local)
	for want, tenant := range map[string]control.Tenant{
		"-":                   {},
		"2026-05-04 03:02:01": {ProvedAt: good},
		"last 2026-05-04 03:02:01; it does not restore": {ProvedAt: good, ProvedError: "it does not restore"},
	} {
		if got := showProof(tenant); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := showHeld(control.Tenant{}); got != "not known yet" {
		t.Errorf("what the replica has, which is not known: %q", got)
	}
	got := showSizes(control.Fleet{LocalBytes: 1 << 10, ReplicaBytes: 2 << 10, ReplicaObjects: 3, MonthlyCost: 1.234, ReplicaUnsized: 4})
	if got != "1.0 KiB here, 2.0 KiB in 3 objects at the replica, 1.23 USD a month; that of 4 databases is not known yet" {
		t.Errorf("the sizes are %q", got)
	}
}
