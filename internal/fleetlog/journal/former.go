package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// What a process does with the logs that it has taken over.

func (j *Journal) takenOver() Taken {
	j.mu.Lock()
	defer j.mu.Unlock()
	var epochs []uint64
	var logs []*format.Log
	for _, t := range j.tails {
		s := t.Seal()
		if s != nil {
			epochs = append(epochs, s.Epoch)
		}
		if s == nil || !j.over[s.Epoch] {
			logs = append(logs, t.Objects()...)
		}
	}
	return Taken{Epochs: epochs, Logs: fleetlog.Unreleased(fleetlog.Remembered(logs, j.beside...)), Ours: j.ours}
}

// Finish takes a log that was taken over out of the map, all of whose files are in their
// prefixes, and deletes its objects (F8). Its seal stays. Where its owner has closed it, it
// stays for the retention, and a later process finishes it.
func (j *Journal) Finish(ctx context.Context, epoch uint64) error {
	var tail *fleetlog.Tail
	j.mu.Lock()
	for _, t := range j.tails {
		if s := t.Seal(); s != nil && s.Epoch == epoch {
			tail = t
		}
	}
	j.mu.Unlock()
	if tail == nil {
		return fmt.Errorf("epoch %d was not taken over by this process", epoch)
	}
	if j.keeps(tail) {
		return nil
	}
	failpoint.Hit("fleetlog.finish.before")
	needed := false // for what it says to be void of another log (F9)
	m, err := j.req.change(ctx, fleetlog.NewChange(j.cfg.Life, j.cfg.Now().UnixMilli(), nil, func(m *format.Map) error {
		if needed = fleetlog.Needed(m, tail.Objects()); needed {
			return fleetlog.ErrMoved
		}
		return fleetlog.Finish(m, epoch)
	}))
	if err != nil && !errors.Is(err, fleetlog.ErrMoved) {
		return err
	}
	failpoint.Hit("fleetlog.finish.after")
	if needed {
		return nil // it goes after that one
	} else if !m.Finished(epoch) {
		return err // it owns a shard
	}
	names, err := j.req.leftovers(ctx, m, epoch, tail.Seal().Seq)
	if err != nil {
		return err
	}
	failpoint.Hit("fleetlog.delete.before")
	if len(names) > 0 {
		if err := j.req.store.Delete(ctx, names...); err != nil {
			return err
		}
	}
	failpoint.Hit("fleetlog.delete.after")
	j.mu.Lock()
	j.tails = slices.DeleteFunc(j.tails, func(t *fleetlog.Tail) bool { return t == tail })
	j.unpinLocked()
	j.mu.Unlock()
	if j.cfg.Finished != nil {
		j.cfg.Finished(epoch)
	}
	return nil
}

// keeps reports whether a log that was taken over stays for its history: its end is younger
// than the retention, and says itself that all is unpacked, so that it costs the next
// process one read.
func (j *Journal) keeps(tail *fleetlog.Tail) bool {
	var end int64
	for _, log := range tail.Objects() {
		if end = log.Created; len(log.Records) > 0 {
			return false
		}
	}
	return j.cfg.Now().Sub(time.UnixMilli(end)) < j.cfg.Retention
}

// Former are the epochs that were taken over and are not finished.
func (j *Journal) Former() (epochs []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.tails {
		if s := t.Seal(); s != nil {
			epochs = append(epochs, s.Epoch)
		}
	}
	return epochs
}
