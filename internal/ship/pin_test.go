package ship

import (
	"errors"
	"fmt"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
)

// TestACommitBesideThePinIsNeverLost commits at the instants at which a pin
// learns its place in the log: between its questions to SQLite. What keeps it is
// tryPin's comparisons: `before != after` for a commit, and `*h0 != h1` for a
// restart after which as many frames are in use as before. After a wrong pin the
// commit would be behind the position and not in the file: no restore has it, ever.
func TestACommitBesideThePinIsNeverLost(t *testing.T) {
	const sameFrames = "UPDATE t SET v = randomblob(100) WHERE k = 1" // one frame
	for _, c := range []struct {
		name    string
		moment  moment
		settled bool // every frame was checkpointed before, so that a commit restarts the log
		each    bool // at every attempt, until the pin stops the writers
	}{
		{"a commit before the read", beforeRead, false, false},
		{"a commit after the read", afterRead, false, false},
		{"a commit before each read", beforeRead, false, true},
		{"a commit after each read", afterRead, false, true},
		{"a restart before the read", beforeRead, true, false},
		{"a restart after the read", afterRead, true, false},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first time %v", c.name, first), func(t *testing.T) {
				r, states := newRig(t, 1024), history{}
				r.insert(3, 100)
				if !first {
					// Shipped before, and then only a resync is left.
					r.ship(RuleResync)
					states.note(r)
					r.db.State.noWAL()
					r.db.State.Fingerprint = fsid.Fingerprint{}
					r.exec(sameFrames)
				}
				if c.settled {
					r.exec("PRAGMA wal_checkpoint(TRUNCATE)", sameFrames, "PRAGMA wal_checkpoint(PASSIVE)")
				}
				attempts, commits := 0, 0
				r.s.onMoment = func(at moment) {
					if at != c.moment {
						return
					}
					attempts++
					if commits == 0 || c.each && attempts <= pinAttempts {
						commits++
						r.exec(sameFrames)
					}
				}
				r.ship(RuleResync)
				if attempts != commits+1 {
					t.Errorf("%d attempts beside %d commits, want one more: the last beside none", attempts, commits)
				}
				states.note(r)
				r.same()
				r.insert(1, 100)
				r.ship(RuleSame)
				states.note(r)
				states.check(r)
			})
		}
	}
}

// TestAFileReplacedBesideThePinIsNotTakenForTheOneThatWasRead: its fingerprint
// would say that the replica has what nobody read. Red without the comparison of
// inodes in measure.
func TestAFileReplacedBesideThePinIsNotTakenForTheOneThatWasRead(t *testing.T) {
	for _, when := range []moment{beforeRead, afterRead} {
		r, other := newRig(t, 1024), newRig(t, 1024)
		for i, r := range []*rig{r, other} {
			r.insert(3+i, 100)
			r.closeApp()
			r.foreign("PRAGMA journal_mode=delete") // or no pin would be needed
		}
		r.replaceAt(when, other)
		if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, ErrUnsettled) {
			t.Errorf("a step beside the replacement: %v", err)
		}
		r.ship(RuleResync)
		r.same()
	}
}
