package multidb

import (
	"time"

	"github.com/multidb-go/multidb/internal/life"
)

// FleetLogStats is what this process did with the fleet log, and what that has which
// prefixes lack. It is zero without a fleet log, and before the first write.
type FleetLogStats struct {
	Epoch   uint64 // of the log that this process writes
	Objects int64  // written to it, and acknowledged
	Files   int64  // in them: one for each database that had changed
	Bytes   int64  // of these files
	Queued  int    // files that are not acknowledged now
	Pending int    // objects now that hold what a prefix lacks, those of former logs included
	// Tails is how many databases have a prefix now that lacks something of the log, and
	// TailBytes the size of that.
	Tails     int
	TailBytes int64
	Unpacks   int64 // times that a prefix was given what it lacked
	Fenced    bool  // another process has taken over; every database is fenced
}

func (m *Manager) fleetLogStats() FleetLogStats {
	s := m.fleetLog.Stats()
	return FleetLogStats{
		Epoch: s.Epoch, Objects: s.Objects, Files: s.Files, Bytes: s.Bytes, Queued: s.Queued, Pending: s.Pending,
		Tails: s.Tails, TailBytes: s.TailBytes, Unpacks: s.Unpacks, Fenced: s.Fenced,
	}
}

// fleetLogErr is why the fleet log is not well, and since when; nil if it is.
func (m *Manager) fleetLogErr(maxLag time.Duration) (since time.Time, err error) {
	var served bool
	m.fleet.Life(func(l *life.Life) { served = l.Served() })
	if !served || m.fleetLog == nil {
		return time.Time{}, nil
	}
	return m.fleetLog.Err(maxLag)
}
