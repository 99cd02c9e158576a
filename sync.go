package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/schedule"
	"github.com/superfly/ltx"
)

// TXID is a transaction of a replica: the n-th LTX file that was written to it.
// It is litestream's.
type TXID = ltx.TXID

// Pos is how far a replica has come.
type Pos struct{ TXID TXID }

// Sync returns when every commit made before the call is at the replica: they
// are durable from then on, whatever happens to this machine. Calls for one
// database at the same time share one upload.
//
// ctx bounds the waiting; the upload goes on. A failing replica is tried once,
// whatever its back-off; the error says why it failed.
func (m *Manager) Sync(ctx context.Context, id ID) (Pos, error) {
	if m.cfg.replica == nil {
		return Pos{}, opError("sync", id, ErrNoReplica)
	}
	e, err := m.lookup(id)
	if err != nil {
		return Pos{}, opError("sync", id, err)
	}
	txid, err := m.syncEntry(ctx, e)
	return Pos{TXID: txid}, opError("sync", id, err)
}

func (m *Manager) syncEntry(ctx context.Context, e *entry) (TXID, error) {
	done := make(chan syncResult, 1)
	m.mu.Lock()
	switch {
	case e.Removed:
		m.unlock()
		return 0, ErrNotFound
	case e.Refused != nil:
		defer m.unlock()
		return e.health.txid, e.Refused
	}
	e.waiters = &waiter{done, e.waiters}
	m.fleet.Request(e.item, m.cfg.now())
	m.unlock()
	m.workers.Poke()
	select {
	case r := <-done:
		return r.txid, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Close's attempts at a replica that refuses.
const (
	closeAttempts = 3
	closePause    = 250 * time.Millisecond
)

// shipAll ships every database that may have something left. It returns those
// that are not durable.
func (m *Manager) shipAll(ctx context.Context) error {
	if m.cfg.replica == nil {
		return nil
	}
	err := m.shipThese(ctx, m.unshipped())
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, m.cutLogs(ctx))
}

// cutLogs cuts the logs of what is shipped, whose last run came before Close. That one
// stays is no error; that something new was found in it and could not be shipped is.
func (m *Manager) cutLogs(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []*entry
	slots := make(chan struct{}, m.cfg.uploadConcurrency)
	for _, e := range m.withLogs() {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return m.undurable(context.Cause(ctx))
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := m.perform(ctx, e, replicate.OrderCut); err != nil && !errors.Is(err, ErrNotFound) {
				mu.Lock()
				failed = append(failed, e)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return m.undurable(context.Cause(ctx))
	}
	return m.shipThese(ctx, failed)
}

// shipThese ships some databases, in parallel.
func (m *Manager) shipThese(ctx context.Context, all []*entry) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, m.cfg.uploadConcurrency)
	for _, e := range all {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return m.undurable(context.Cause(ctx))
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.shipLast(ctx, e); err != nil {
				mu.Lock()
				errs = append(errs, opError("close", e.id(), fmt.Errorf("%w: %w", ErrNotDurable, err)))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *Manager) shipLast(ctx context.Context, e *entry) error {
	for i := 1; ; i++ {
		_, err := m.syncEntry(ctx, e)
		if err == nil || ctx.Err() != nil || i == closeAttempts || replicate.IsLocal(err) || errors.Is(err, ErrInUse) ||
			errors.Is(err, ErrFenced) || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMissing) && m.renamed(e) {
				return nil
			}
			return err
		}
		if err := ctxio.Sleep(ctx, closePause); err != nil {
			return err
		}
	}
}

// renamed reports whether the file of a database that is missing stands whole
// under another's name, who answers for its commits.
func (m *Manager) renamed(e *entry) bool {
	m.mu.Lock()
	file := e.File
	heir := m.reg.ByFile(file)
	m.mu.Unlock()
	if heir == nil || heir == e || fsid.OrZero(heir.Path) != file {
		return false
	}
	_, err := os.Stat(e.Path + "-wal") // or its log stayed behind
	return errors.Is(err, fs.ErrNotExist)
}

// unshipped is who may have something that the replica has not. It looks at the
// files of every database: a cold one may have been written by another process
// since the last scan, and a watcher's word may be on its way.
func (m *Manager) unshipped() (out []*entry) {
	m.mu.Lock()
	all := slices.Collect(m.reg.All())
	m.unlock()
	for _, e := range all {
		st, err := m.statFiles(e.Path)
		m.mu.Lock()
		if !e.Removed && m.mayOweLocked(e, st, err) {
			out = append(out, e)
		}
		m.unlock()
	}
	return out
}

// mayOweLocked reports whether a database whose files are as st says may have
// commits that are not at the replica.
func (m *Manager) mayOweLocked(e *entry, st fsid.Files, err error) bool {
	if e.item.Running() || m.strays[e] != (fsid.ID{}) {
		return true // and owns what is known of it
	}
	known := e.peekLocked()
	if err == nil && known.Unchanged(st) {
		return false // untouched since everything was shipped
	}
	_, due := e.item.NextDue()
	return due || e.item.Tier() != schedule.Cold || e.health.dirtySince != 0 || e.Refused != nil ||
		err == nil && known.MayOwe(st)
}

// undurable names the databases that may not be durable, for a Close that ran
// out of time.
func (m *Manager) undurable(cause error) error {
	if m.cfg.replica == nil {
		return nil
	}
	var errs []error
	for _, e := range m.unshipped() {
		errs = append(errs, opError("close", e.id(), fmt.Errorf("%w: %w", ErrNotDurable, cause)))
	}
	return errors.Join(errs...)
}

// withLogs is which databases have a log with something in it, for Close.
func (m *Manager) withLogs() (out []*entry) {
	ids := m.logs.IDs()
	m.mu.Lock()
	var all []*entry
	for _, id := range ids {
		if e := m.reg.Get(id); e != nil && e.Refused == nil && e.health.err == nil {
			all = append(all, e)
		}
	}
	m.mu.Unlock()
	for _, e := range all {
		if st, err := m.statFiles(e.Path); err == nil && st.WAL.Size > 0 {
			out = append(out, e)
		}
	}
	return out
}

// mayDeferLocked reports whether what a run finds changed may stay local. What
// Sync has asked for, or a run has begun to ship, is shipped to its end.
func (m *Manager) mayDeferLocked(e *entry, cold, asked bool) bool {
	return m.cfg.coldSyncMode == ColdSyncNone && m.cfg.replica != nil && cold && !asked &&
		(e.deferred || e.health.dirtySince == 0)
}

// momentOfFile is moment for a time that may be before the Manager was made.
func (m *Manager) momentOfFile(t time.Time) moment {
	if at := moment(t.Sub(m.epoch)) + 1; at != 0 {
		return at
	}
	return 1
}

// setDeferredLocked notes whether there is a change that is left local, and since when.
func (m *Manager) setDeferredLocked(e *entry, deferred bool, since moment) {
	if deferred && !e.deferred {
		m.deferred++
		e.health.dirtySince = since
	} else if !deferred && e.deferred {
		m.deferred--
		e.health.dirtySince = 0
	}
	e.deferred = deferred
}
