package multidb

import (
	"context"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
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
func (m *Manager) fleetLogErr(maxLag time.Duration) (err error, since time.Time) {
	var served bool
	m.fleet.Life(func(l *life.Life) { served = l.Served() })
	if !served || m.fleetLog == nil {
		return nil, time.Time{}
	}
	s, name := m.journal.Stats(), m.cfg.fleetLog.Path
	if s.Epoch != 0 {
		name = fmt.Sprintf("%s, epoch %d", name, s.Epoch)
	}
	late := m.cfg.now().Sub(s.Waiting)
	switch {
	case s.Fenced:
		return fmt.Errorf("fleet log %s: %w: %w", name, ErrFenced, m.journal.Err()), s.Ended
	case s.Failing != nil:
		return fmt.Errorf("fleet log %s: %w", name, s.Failing), s.FailingSince
	case s.Queued > 0 && late > maxLag:
		return fmt.Errorf("fleet log %s: no object was acknowledged for %s, and %d files wait",
			name, late.Round(time.Millisecond), s.Queued), s.Waiting
	}
	return nil, time.Time{}
}

// fleetLogBegan tells of the log of this process, and of those that it has ended.
func (m *Manager) fleetLogBegan(epoch uint64, ended []journal.Ended) {
	for _, e := range ended {
		m.tellOfLog(fleet.EventFleetLogTakenOver, e.Epoch, e.Node, nil)
	}
	m.tellOfLog(fleet.EventFleetLogBegun, epoch, m.cfg.fleetLog.Path, nil)
}

// fleetLogFenced refuses every database, as another process has taken over.
func (m *Manager) fleetLogFenced(err error) {
	err = fmt.Errorf("%w: %w", ErrFenced, err)
	m.conductor.Fence(err)
	m.tellOfLog(fleet.EventFleetLogFenced, m.journal.Stats().Epoch, m.cfg.fleetLog.Path, err)
}

func (m *Manager) tellOfLog(what fleet.EventType, epoch uint64, path string, err error) {
	m.fleet.Emit(fleet.Event{Type: what, Path: path, Epoch: epoch, Err: err})
}

// unpackFormer gives the prefixes what logs that were taken over have, and finishes those
// logs.
func (m *Manager) unpackFormer(ctx context.Context) {
	select {
	case <-m.journal.Begun():
	case <-ctx.Done():
		return
	}
	m.conductor.UnpackFormer(ctx, conduct.Former{
		Prefixes: m.fleetLog.Former, Dir: m.logDir, Every: m.cfg.unpackInterval(), Warn: m.cfg.logger.Warn,
		Unpack: func(ctx context.Context, dir string) error {
			inner, err := m.clientAt(dir)
			if err == nil {
				_, err = m.fleetLog.Unpack(ctx, dir, inner)
			}
			return err
		},
		Finish: func(ctx context.Context) (left bool, err error) {
			err = m.fleetLog.FinishFormer(ctx)
			return m.journal.Err() == nil && len(m.journal.Former()) > 0, err
		},
	})
}
