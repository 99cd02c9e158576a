package ship

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAResyncSaysWhatKeptItFromShippingLess(t *testing.T) {
	for want, change := range map[string]func(r *rig){
		"nothing is known here of the file that was shipped": func(r *rig) { r.db.State.Ino = 0 },
		"another file is at its path": func(r *rig) {
			r.closeApp()
			other := filepath.Join(t.TempDir(), "other.db")
			r.copyTo(other)
			if err := os.Rename(other, r.path); err != nil {
				t.Fatal(err)
			}
		},
		"its log is gone, and the file has changed": func(r *rig) {
			r.closeApp()
			r.foreign("INSERT INTO t(v) VALUES(9)", "PRAGMA journal_mode=delete")
		},
		"its page size has changed": func(r *rig) {
			r.closeApp()
			r.foreign("PRAGMA journal_mode=delete", "PRAGMA page_size=8192", "VACUUM", "PRAGMA journal_mode=wal")
			r.app = ours(t, r.path)
			r.insert(1, 100)
		},
		"its log has begun anew, and the file has changed": func(r *rig) {
			for range 3 { // twice at least, where one restart can be proved
				r.insert(1, 100)
				r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			}
			r.insert(1, 100)
		},
		"what was shipped of its log is not there any more": func(r *rig) {
			h, frames := parseLog(t, r.log())
			log := buildLog(h, frames[:len(frames)-1])
			r.closeApp()
			r.setLog(log)
		},
	} {
		t.Run(want, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(3, 1000)
			r.ship(RuleResync)
			r.insert(3, 1000)
			r.ship(RuleSame)
			change(r)
			if res := r.ship(RuleResync); res.Why != want {
				t.Errorf("because %q; want %q", res.Why, want)
			}
		})
	}
	r := newRig(t, 4096)
	r.insert(3, 1000)
	if res := r.ship(RuleResync); res.Why != "it is the first state" {
		t.Errorf("the first time because %q", res.Why)
	}
	r.insert(3, 1000)
	if res := r.ship(RuleSame); res.Why != "" {
		t.Errorf("no resync, because %q", res.Why)
	}
}
