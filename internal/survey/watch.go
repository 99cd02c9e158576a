package survey

import (
	"context"
	"errors"
	"fmt"

	"github.com/multidb-go/multidb/internal/discover"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/watch"
)

// Change is what a watcher notifies of.
type Change struct {
	Type     discover.EventType
	Database registry.Database // of discover.Changed; its ID may be empty
	Err      error             // of discover.Polls
}

// unknown was found by a watcher, and is not known.
type unknown struct {
	registry.Database
	source int
}

// unknownQueue is how many of them wait for the scanner at most. A full queue becomes a
// scan.
const unknownQueue = 4096

// Watch starts the watchers among the discoverers, before the first scan, so that nothing
// can change between the two. They end with ctx. It returns an error only of a watcher
// that did not start, which leaves the scans.
func (s *Survey) Watch(ctx context.Context) error {
	if !s.cfg.Watch {
		return nil
	}
	s.watched.Store(true)
	var errs []error
	for i, d := range s.discoverers {
		if d.Watch == nil {
			s.watched.Store(false)
			continue
		}
		run, err := d.Watch(ctx, func(c Change) { s.notified(c, i) }, s.fleet.Needless)
		if err != nil {
			errs = append(errs, err)
			s.watched.Store(false)
			continue
		}
		s.running.Go(run)
	}
	return errors.Join(errs...)
}

// notified takes what a watcher notifies of.
func (s *Survey) notified(c Change, source int) {
	switch c.Type {
	case discover.Changed:
		s.changed(c.Database, source)
	case discover.Gone:
		s.rounds.Ask(false)
	case discover.Rescan:
		s.rounds.Ask(true)
	case discover.Polls:
		s.watched.Store(false)
		hint := " (see fs.inotify.max_user_watches)"
		if errors.Is(c.Err, watch.ErrVirtual) {
			hint = ""
		}
		s.fleet.Emit(fleet.Event{Type: fleet.EventWatch, Err: fmt.Errorf("directories are polled, as they cannot be watched: %w%s", c.Err, hint)})
	}
}

// changed has a database run that a watcher saw change. One that is not known goes to the
// scanner, who alone takes in new ones.
func (s *Survey) changed(db registry.Database, source int) {
	e := s.fleet.At(db.ID, db.Path)
	if e == nil {
		id := fsid.OrZero(db.Path) // the file may be known by another name
		e = s.fleet.ByFile(id)
		if e == nil || fsid.OrZero(e.Path()) != id {
			if db.ID != "" { // else a listing knows its ID
				s.rounds.Found(unknown{db, source})
			}
			return
		}
	}
	s.conductor.Look(e)
}

// takeIn takes in what a watcher found.
func (s *Survey) takeIn(u unknown) {
	s.found(Listed{Database: u.Database}, u.source, s.fleet.Scan(), true)
	s.conductor.Due()
}
