package fleet

import (
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/superfly/ltx"
)

// packed is how far the prefix of a database has come that lacks something of what the
// fleet log has, or may lack something.
type packed struct {
	upTo  ltx.TXID // the last transaction that the prefix is known to have
	since moment   // when it has lacked the next one for the first time; zero: only perhaps
}

// errOverdue is why a database is not well whose prefix lacks something for too long.
var errOverdue = errors.New("the replica's prefix was not brought up to date from the fleet log in time")

// unpackedLocked is the last transaction that the prefix is known to have.
func (f *Fleet) unpackedLocked(e *Entry) ltx.TXID {
	if p, ok := f.packed[e]; ok {
		return min(p.upTo, e.health.txid)
	}
	return e.health.txid
}

// setPackedLocked takes over from a report what the prefix lacks.
func (f *Fleet) setPackedLocked(e *Entry, rep *replicate.Report) {
	switch before, ok := f.packed[e]; {
	case !rep.LacksKnown || e.reg.Removed:
	case rep.Lacks == 0:
		delete(f.packed, e)
	case !ok || before.since == 0 || before.upTo < rep.Lacks-1:
		f.packed[e] = packed{rep.Lacks - 1, f.moment(rep.Started)}
	}
}

// unknownLocked notes that the replica may go further than before, and that nobody has
// looked whether that is in the prefix.
func (f *Fleet) unknownLocked(e *Entry) {
	if f.cfg.Logged {
		f.packed[e] = packed{upTo: f.unpackedLocked(e)}
	}
}

// recallPackedLocked notes what the catalog has of the prefix.
func (f *Fleet) recallPackedLocked(e *Entry, upTo ltx.TXID) {
	if f.cfg.Logged && upTo < e.health.txid {
		f.packed[e] = packed{upTo: upTo}
	}
}

// overdueLocked is the error of a database whose prefix lacks something for too long.
func (f *Fleet) overdueLocked(e *Entry) error {
	p, ok := f.packed[e]
	if !ok || p.since == 0 || f.cfg.UnpackWithin == 0 || p.upTo >= e.health.txid {
		return nil
	}
	late := f.cfg.Now().Sub(f.when(p.since))
	if late <= f.cfg.UnpackWithin {
		return nil
	}
	return replicate.NewMaintenanceError(fmt.Errorf("%w: it lacks what was committed after transaction %s, for %s; only the fleet log has it",
		errOverdue, p.upTo, late.Round(time.Second)))
}
