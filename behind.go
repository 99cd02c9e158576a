package multidb

import "github.com/multidb-go/multidb/internal/ship"

// behind is how far a database is ahead of its replica. Only those that are have
// one, so that the others pay nothing for it.
type behind struct{ walEnd, lag int64 }

// measure looks how far it is now. What cannot be read is the step's to report.
func (r *runState) measure(st ship.State) {
	end, lag, err := ship.Behind(r.e.db.Path, st, r.before.Main)
	if err == nil {
		r.behind, r.measured = behind{end, lag}, true
	}
}

// isBehind notes what a step has found, before it waits for the replica.
func (m *Manager) isBehind(r *runState, b behind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.behind, r.measured = b, true
	m.setBehindLocked(r)
}

// setBehindLocked keeps what a run has measured, until one finds everything
// shipped.
func (m *Manager) setBehindLocked(r *runState) {
	if r.measured && !r.e.removed {
		m.behind[r.e] = r.behind
	}
}

// behindLocked is how many bytes of the WAL are in use and how many of them the
// replica lacks, by the last look.
func (m *Manager) behindLocked(e *entry) (walEnd, lag int64) {
	if b, ok := m.behind[e]; ok {
		return b.walEnd, b.lag
	}
	if r := m.runs[e]; r != nil {
		return r.shippedTo, 0
	}
	return e.peekLocked().state.Offset, 0
}
