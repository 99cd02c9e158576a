package fleet

import (
	"errors"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// lacking is the report of a run whose client has everything durable up to a transaction,
// of which the prefix lacks what comes from another on; zero: nothing.
func lacking(upTo, from ltx.TXID) replicate.Report {
	rep := taken(upTo, upTo)
	rep.LacksKnown, rep.Lacks = true, from
	return rep
}

func logged(c *Config) { c.Logged, c.UnpackWithin = true, 15*time.Minute }

func TestUnpackedIsWhatThePrefixHas(t *testing.T) {
	r := newRig(t, logged)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	check := func(when string, durable, unpacked ltx.TXID) {
		t.Helper()
		if s := r.Status(e); s.TXID != durable || s.UnpackedTXID != unpacked {
			t.Errorf("%s: durable %s, unpacked %s; want %s and %s", when, s.TXID, s.UnpackedTXID, durable, unpacked)
		}
	}
	check("at first", 0, 0)
	rep := taken(2, 0)
	rep.LacksKnown, rep.Lacks = true, 1
	run := r.begin(t, e)
	rep.Started = run.Started()
	r.Settled(run, &rep, nil)
	r.Durable("replica/a", 2, nil) // before the run has ended
	check("durable, not unpacked", 2, 0)
	r.Finish(run, &rep)
	check("the run has ended", 2, 0)
	r.run(t, e, lacking(5, 3))
	check("some of it is unpacked", 5, 2)
	r.run(t, e, replicate.Report{Drained: true, Position: ship.State{TXID: 5}})
	check("a run that has not looked", 5, 2)
	r.run(t, e, lacking(5, 0))
	check("all is unpacked", 5, 5)
	if kept, _ := r.Kept(); kept != 3 { // its ID, file and prefix
		t.Errorf("%d things are kept of a database at rest", kept)
	}
	r.run(t, e, lacking(6, 6))
	r.Remove(e, r.NextScan(), false)
	if kept, _ := r.Kept(); kept != 0 {
		t.Errorf("%d things are kept of a database that went", kept)
	}
}

func TestTheCatalogSaysWhatIsUnpacked(t *testing.T) {
	for name, c := range map[string]struct {
		change         func(*Config)
		unpacked, want ltx.TXID
	}{
		"at rest":               {logged, 9, 9},
		"the inventory is old":  {logged, 4, 4},
		"hot when it was ended": {logged, 0, 0},
		"no log":                {nil, 0, 9},
	} {
		r := newRig(t, c.change)
		r.Recall(Recalled{Database: registry.Database{ID: "a", Path: "/data/a"}, Prefix: Prefix{Path: "replica/a"}, LastWrite: r.now,
			Known: &replicate.Record{Position: ship.State{TXID: 9}}, Unpacked: c.unpacked})
		e, err := r.Lookup("a")
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Status(e); s.TXID != 9 || s.UnpackedTXID != c.want {
			t.Errorf("%s: durable %s, unpacked %s, want %s", name, s.TXID, s.UnpackedTXID, c.want)
		}
		r.now = r.now.Add(24 * time.Hour)
		r.run(t, e, replicate.Report{Drained: true, Position: ship.State{TXID: 9}})
		if s := r.Status(e); s.Err != nil {
			t.Errorf("%s: nobody has looked at the prefix, and %v", name, s.Err)
		}
	}
}

// TestAPrefixThatLacksSomethingForTooLongIsAReason: a database that is written all the time
// lacks something all the time, which is none.
func TestAPrefixThatLacksSomethingForTooLongIsAReason(t *testing.T) {
	r := newRig(t, logged)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	well := func(want bool, when string) {
		t.Helper()
		s := r.Status(e)
		if (s.Err == nil) != want || !want && !errors.Is(s.Err, errOverdue) {
			t.Errorf("%s: %v", when, s.Err)
		}
		if worst := r.Worst(time.Hour, 10); (len(worst) == 0) != want {
			t.Errorf("%s: the worst are %+v", when, worst)
		}
	}
	txid := ltx.TXID(1)
	for range 10 {
		r.run(t, e, lacking(txid+1, txid))
		r.now = r.now.Add(10 * time.Minute)
		txid++
		well(true, "unpacked again and again")
	}
	r.run(t, e, lacking(txid+1, txid))
	r.now = r.now.Add(16 * time.Minute)
	for range 3 {
		r.run(t, e, lacking(txid+2, txid))
		well(false, "16 minutes without")
	}
	c, total := r.Counts()
	if c.Failing[1] != 1 || total.Failures[1] != 1 {
		t.Errorf("%d are failing after %d failures, want one each", c.Failing[1], total.Failures[1])
	}
	r.run(t, e, lacking(txid+3, 0))
	well(true, "unpacked")
	var failed, recovered int
	for _, ev := range r.events {
		switch ev.Type {
		case EventFailed:
			failed++
		case EventRecovered:
			recovered++
		}
	}
	if failed != 1 || recovered != 1 {
		t.Errorf("told of %d failures, %d recoveries", failed, recovered)
	}
}
