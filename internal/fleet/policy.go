package fleet

import (
	"time"

	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
)

// Asked is what the application says of how a database is to be treated. Who asks calls the
// user's code, which the Fleet does not.
type Asked struct {
	Given  bool // it was asked
	Policy policy.Policy
	Err    error // why the policy of whoever has none of its own counts
}

// policies is what all databases are treated by.
type policies struct {
	table *policy.Table
	full  bool // it is noted that there are too many
}

// SetPolicy takes over what the application says of a database, and returns what counts now.
func (f *Fleet) SetPolicy(e *Entry, a Asked) policy.Policy {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.setPolicyLocked(e, a, now) {
		f.cfg.Due()
	}
	return f.policyLocked(e)
}

// policyLocked is what a database is treated by now.
func (f *Fleet) policyLocked(e *Entry) policy.Policy { return f.policies.table.Of(e.item.Pace()) }

// setPolicyLocked does what SetPolicy does. The schedule has a pace for each policy, by the
// same number. changed: it has another one than before.
func (f *Fleet) setPolicyLocked(e *Entry, a Asked, now time.Time) (changed bool) {
	if !a.Given || e.reg.Removed {
		return false
	}
	before, to, refused := f.policyLocked(e), a.Policy, a.Err
	if refused != nil {
		to = f.policies.table.Of(0)
	}
	if _, noted := f.refusing[e]; refused != nil && !noted {
		f.mu.Note(Event{Type: EventPolicy, ID: e.ID(), Path: e.Path(), Op: "policy", Err: refused})
	}
	if delete(f.refusing, e); refused != nil {
		f.refusing[e] = struct{}{}
	}
	if to == before {
		return false
	}
	if to.Pace.Heat == schedule.Always && e.reg.Held > 0 && e.item.Tier() == schedule.Cold {
		return false // its file may be in the making; who has it leased makes it active, and it is asked again
	}
	number, fresh, err := f.policies.table.Change(e.item.Pace(), to)
	if err != nil {
		// One event for all of them: there may be a million.
		if !f.policies.full {
			f.policies.full = true
			f.mu.Note(Event{Type: EventPolicy, ID: e.ID(), Path: e.Path(), Op: "policy", Err: err})
		}
		to = f.policies.table.Of(0)
		number, fresh, _ = f.policies.table.Change(e.item.Pace(), to) // which there is always room for
	} else if f.policies.table.Len() < policy.MaxDistinct/2 {
		f.policies.full = false
	}
	if fresh {
		f.schedule.DefinePace(number, to.Pace)
	}
	f.schedule.SetPace(e.item, number, now)
	if e.retainAt != 0 && (to.Levels.Retention < before.Levels.Retention || to.Levels.L0Retention < before.Levels.L0Retention) {
		e.retainAt = replicate.RetainUnknown
	}
	return true
}

// dropPolicyLocked lets go of the policy of a database that is removed.
func (f *Fleet) dropPolicyLocked(e *Entry, now time.Time) {
	number := e.item.Pace()
	f.schedule.SetPace(e.item, 0, now)
	f.policies.table.Drop(number)
}
