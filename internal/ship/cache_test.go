package ship

import (
	"errors"
	"testing"

	"github.com/superfly/ltx"
)

// asCache is the next process on the same disk, which knows what the state was at a time, and
// that others may have served the database since. It returns what it finds.
func (r *rig) asCache(known State) error {
	r.t.Helper()
	r.reborn()
	r.db.State = known
	l := r.listing()
	l.Cache = true
	return r.s.Verify(r.t.Context(), r.db, l)
}

// emptied is a checkpoint that is not ours.
func emptied(r *rig) {
	r.closeApp()
	r.foreign("PRAGMA wal_checkpoint(TRUNCATE)")
	r.app = ours(r.t, r.path)
}

// lagging ships some commits, and returns the state before the last two files.
func (r *rig) lagging() (early State) {
	r.t.Helper()
	r.insert(3, 100)
	drain(r.t, r.s, r.db)
	early = r.db.State
	for range 2 {
		r.insert(1, 100)
		drain(r.t, r.s, r.db)
	}
	return early
}

func TestACacheIsUsedWhereItIsTheNewestState(t *testing.T) {
	for name, c := range map[string]struct {
		known func(early, now State) State
		do    func(r *rig)
	}{
		"as it is known":                       {func(_, now State) State { return now }, nil},
		"what is known lags":                   {func(early, _ State) State { return early }, nil},
		"nothing is known":                     {func(_, _ State) State { return State{} }, nil},
		"known, and checkpointed since":        {func(_, now State) State { return now }, emptied},
		"what is known lags, and checkpointed": {func(early, _ State) State { return early }, emptied},
		"nothing is known, and checkpointed":   {func(_, _ State) State { return State{} }, emptied},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			early := r.lagging()
			now := r.db.State
			if c.do != nil {
				c.do(r)
			}
			files := len(r.client.files)
			if err := r.asCache(c.known(early, now)); err != nil {
				t.Fatal(err)
			}
			if drain(t, r.s, r.db); r.db.State.TXID != now.TXID || len(r.client.files) != files {
				t.Errorf("it is at %s with %d files, want %s with %d", r.db.State.TXID, len(r.client.files), now.TXID, files)
			}
			r.insert(1, 100)
			drain(t, r.s, r.db)
			r.same()
		})
	}
}

func TestACacheThatLagsIsBehindAlsoWhereWhatIsKnownLagsToo(t *testing.T) {
	for name, known := range map[string]func(early, now State) State{
		"as it is known":     func(_, now State) State { return now },
		"what is known lags": func(early, _ State) State { return early },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			early := r.lagging()
			now := r.db.State
			r.other(3, 4)
			files := len(r.client.files)
			if err := r.asCache(known(early, now)); !errors.Is(err, ErrBehind) {
				t.Errorf("got %v, want ErrBehind", err)
			}
			if st := r.db.State; st != known(early, now) || len(r.client.files) != files {
				t.Errorf("the state is %+v, with %d files", st, len(r.client.files))
			}
		})
	}
}

// TestACacheWithMoreThanTheReplicaIsFencedWhoeverWroteLast: the replica's last file may be this
// node's own. Others may have served the database without what only the file has.
func TestACacheWithMoreThanTheReplicaIsFencedWhoeverWroteLast(t *testing.T) {
	for name, known := range map[string]func(early, now State) State{
		"as it is known":     func(_, now State) State { return now },
		"what is known lags": func(early, _ State) State { return early },
		"nothing is known":   func(_, _ State) State { return State{} },
	} {
		for what, do := range map[string]func(r *rig){
			"nobody went on":      func(*rig) {},
			"others went on":      func(r *rig) { r.other(3, 4) },
			"and it checkpointed": emptied,
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				r := newRig(t, 4096)
				early := r.lagging()
				now := r.db.State
				r.insert(1, 100)
				do(r)
				files := len(r.client.files)
				if err := r.asCache(known(early, now)); !errors.Is(err, ErrFenced) {
					t.Errorf("got %v, want ErrFenced", err)
				}
				if st := r.db.State; st != known(early, now) || len(r.client.files) != files {
					t.Errorf("the state is %+v, with %d files", st, len(r.client.files))
				}
			})
		}
	}
}

func TestACacheOfWhatTheReplicaHasNothingOfIsFencedIfItHadSomething(t *testing.T) {
	r := newRig(t, 4096)
	r.lagging()
	clear(r.client.files)
	if err := r.asCache(r.db.State); !errors.Is(err, ErrFenced) {
		t.Errorf("of what was erased: %v", err)
	}
	if err := r.asCache(State{}); err != nil { // a file that was put there before all else
		t.Errorf("of what was never there: %v", err)
	}
	if drain(t, r.s, r.db); r.db.State.TXID != ltx.TXID(1) {
		t.Errorf("it is at %s", r.db.State.TXID)
	}
}
