package main

import (
	"strings"
	"testing"
)

func TestStatusCountsWhatIsNotWellByTheReason(t *testing.T) {
	f := newFleet(t, 1, 13)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	f.shipTo(t, replica) // by another process, which goes on: they are fenced here
	other := f.elsewhere(t, cfg, replica, f.ids[:12]...)
	for _, id := range other.ids {
		write(t, f.path(id), "INSERT INTO t (v) VALUES ('here')")
	}
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	t.Cleanup(func() {
		if err := run.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		run.wait()
	})
	fenced(t, cfg, 12)
	r := invoke(t, nil, "status", "-config", cfg).start().want(3).records()[0]
	if n, _ := r["not_well"].(map[string]any); n["fenced"] != 12.0 {
		t.Errorf("%v", r)
	}
	if worst, _ := r["worst"].([]any); len(worst) != 10 {
		t.Errorf("%d are named", len(worst))
	}
	p := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(3)
	if out := p.stdout.String(); !strings.Contains(out, "not well: 12 databases: 12 fenced") {
		t.Errorf("%s", out)
	}
	if got := showNotWell(map[string]int64{"lagging": 1}); got != "1 database: 1 lagging" {
		t.Error(got)
	}
}
