package fleet

import (
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
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

// TestASecondNameIsNotRunWhileItIsFoundOutThatItIsOne: a watcher sees it between the moment
// when an Acquire looks at its file and that when it is refused.
func TestASecondNameIsNotRunWhileItIsFoundOutThatItIsOne(t *testing.T) {
	r := newRig(t, nil)
	file := fsid.ID{Dev: 1, Ino: 7}
	first := r.find(t, "a", file)
	r.run(t, first, replicate.Report{Drained: true})
	twin := func(id string) *Entry {
		h, err := r.Hold(id, &Candidate{Database: registry.Database{ID: id, Path: "/data/" + id}, Prefix: Prefix{Path: "replica/" + id}})
		if err != nil || h.Entry == nil {
			t.Fatalf("held %+v, %v", h, err)
		}
		return h.Entry
	}
	seen := fsid.Files{Main: fsid.Fingerprint{Ino: 7, Size: 4096, Mtime: r.now.UnixNano()}}
	due := func() bool {
		r.now = r.now.Add(time.Second)
		_, due := r.schedule.Wake()
		return due
	}
	before := due()
	second := twin("b")
	r.NoteFile(second, file)
	r.Look(second, seen)
	if _, is := second.item.NextDue(); is || due() != before {
		t.Error("the second name is due")
	}
	if other := r.Claim(second, file); other != first {
		t.Fatalf("it is the file of %v", other)
	}
	r.Disclaim(second, file)
	if gone, _ := r.LetGo(second); !gone {
		t.Error("the second name is still known")
	}
	own := fsid.ID{Dev: 1, Ino: 8} // a file of its own is due
	third := twin("c")
	r.NoteFile(third, own)
	seen.Main.Ino = 8
	r.Look(third, seen)
	if _, is := third.item.NextDue(); !is {
		t.Error("a file of its own is not due")
	}
}
