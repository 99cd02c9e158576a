package fleet

import (
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
)

// TestAWriteIsNeedlessOnlyToADatabaseThatIsLookedAtAnyway takes each reason away.
func TestAWriteIsNeedlessOnlyToADatabaseThatIsLookedAtAnyway(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	path := e.Path()
	check := func(want bool, when string) {
		t.Helper()
		if got := r.Needless("a", path); got != want {
			t.Errorf("%s: needless is %v", when, got)
		}
	}
	check(true, "hot, as it was written just now")
	run := r.begin(t, e)
	check(false, "running")
	r.Finish(run, &replicate.Report{Drained: true})
	check(true, "hot after a run")
	e.early = 1
	check(false, "hot just now")
	e.early, e.reg.Held = 0, 1
	check(false, "about to be opened")
	e.reg.Held = 0
	run = r.begin(t, e)
	failed := replicate.Report{Err: errBroken}
	r.Settled(run, &failed, nil)
	r.Finish(run, &failed)
	check(false, "failing")
	r.run(t, e, replicate.Report{Drained: true})
	check(true, "recovered")
	path += "x"
	check(false, "by another path")
	for name, change := range map[string]func(*Config){
		"no replica":       func(c *Config) { c.Replicated = false },
		"rarely looked at": func(c *Config) { c.Limits.SyncInterval = c.Limits.HotDuration / 3 },
	} {
		r := newRig(t, change)
		e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
		if r.Needless("a", e.Path()) {
			t.Errorf("%s: needless", name)
		}
	}
}
