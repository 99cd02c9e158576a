package multidb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// TakeoverPolicy says what happens where it cannot be told whether the local file
// or the replica is the newer one. See WithTakeover.
type TakeoverPolicy uint8

const (
	// TakeoverNever refuses the database with ErrFenced until somebody says:
	// Manager.TakeOver or Manager.Adopt. The default.
	TakeoverNever TakeoverPolicy = iota
	// TakeoverUnknown lets the local file win where the state directory was lost, is
	// a copy, or came out of a backup, so that nothing is known of who wrote the
	// replica last. It is for a fleet whose tenants are never opened on two machines.
	TakeoverUnknown
)

func (p TakeoverPolicy) String() string {
	switch p {
	case TakeoverNever:
		return "never"
	case TakeoverUnknown:
		return "unknown"
	}
	return fmt.Sprintf("TakeoverPolicy(%d)", uint8(p))
}

// WithTakeover sets what happens at the first write of a database after a start
// where it is not known whose the replica's history is. Default TakeoverNever.
// Where another machine is known to have written, neither policy lets the local
// file win; a state directory that was ever found to be a copy knows of none.
func WithTakeover(p TakeoverPolicy) Option {
	return func(c *config) error {
		if p > TakeoverUnknown {
			return invalid("WithTakeover", "%v; want TakeoverNever or TakeoverUnknown", p)
		}
		c.takeover = p
		return nil
	}
}

// order is what one run of a database is to do besides shipping: an operator's word,
// or the pool's, which is about to open it.
type order struct {
	kind orderKind
	kept string // where the local file is now, if it was replaced
	err  error
	done chan struct{} // closed when kept and err are set

	// Guarded by Manager.mu: who gave it waits no longer, so that the file may be
	// open; or it is past the point at which that can be said.
	withdrawn, replacing bool
}

type orderKind uint8

const (
	orderCheck    orderKind = iota // see whether the local file is the newest; bring it up to date if it only lags
	orderAdopt                     // the replica wins
	orderTakeOver                  // the local file wins
	orderHandOver                  // ship the rest, then take nothing for granted
	orderCut                       // leave no log behind, if all of it is at the replica
)

// perform has a run carry out an order, after the one that is under way. ctx bounds
// the waiting; the run goes on. For orderCheck and orderAdopt the caller makes sure
// that the pool does not have the file open.
func (m *Manager) perform(ctx context.Context, e *entry, kind orderKind) (*order, error) {
	o := &order{kind: kind, done: make(chan struct{})}
	for {
		m.mu.Lock()
		before := m.orders[e]
		switch {
		case e.removed:
			m.unlock()
			return nil, ErrNotFound
		case e.clash:
			defer m.unlock()
			return nil, e.refused
		case before == nil:
			m.orders[e] = o
			now := m.cfg.now()
			m.fleet.Reset(e.item, now)
			m.fleet.Request(e.item, now)
			m.unlock()
			m.workers.Poke()
			return o, m.carriedOut(ctx, o)
		}
		m.unlock()
		if err := m.carriedOut(ctx, before); err != nil && before.err == nil { // not its own error
			return nil, err
		}
	}
}

// carriedOut waits for the end of an order.
func (m *Manager) carriedOut(ctx context.Context, o *order) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.ctx.Done():
		return ErrClosed
	}
}

// endOrderLocked tells who gave the order what became of it.
func (m *Manager) endOrderLocked(e *entry, o *order, err error) {
	if o != nil {
		o.err = err
		delete(m.orders, e)
		close(o.done)
	}
}

// TakeOver makes the local file of a database the truth: its state becomes the
// newest one at the replica, whoever wrote there last. The other history stays
// restorable by its TXIDs and times until the retention ends; the other writer, if
// there still is one, gets ErrFenced. It returns when the local file is at the
// replica.
//
// It is one of the two ways out of ErrFenced; the other is Adopt. ctx bounds the
// waiting. Errors: ErrNotFound, ErrNoReplica, ErrConflict, those of Sync, as *Error.
func (m *Manager) TakeOver(ctx context.Context, id ID) error {
	e, err := m.replicated(id)
	if err == nil {
		_, err = m.perform(ctx, e, orderTakeOver)
	}
	return opError("take over", id, err)
}

// Adopt makes the replica's newest state that of a database: its local file is set
// aside, as kept says, with all that was committed to it, and a restored one takes
// its place. Nothing of it is shipped. It waits until nobody has the database
// leased; whoever leases it next gets the new file. Programs that have opened the
// file themselves keep the old one: end them first.
//
// It is one of the two ways out of ErrFenced; the other is TakeOver. Callers of Sync
// that wait meanwhile get ErrFenced, since their commits are in the file that is set
// aside. A crash leaves the old file in its place, or the new one, or none: then
// call Adopt again. ctx bounds the waiting. Errors: ErrNotFound, ErrNoReplica,
// ErrNoBackup, ErrConflict, those of a restore, as *Error.
func (m *Manager) Adopt(ctx context.Context, id ID) (kept string, err error) {
	kept, err = m.adopt(ctx, id)
	return kept, opError("adopt", id, err)
}

func (m *Manager) adopt(ctx context.Context, id ID) (kept string, err error) {
	if m.cfg.replica == nil {
		return "", ErrNoReplica
	}
	return m.whenClosed(ctx, id, orderAdopt)
}

// whenClosed has an order carried out when the pool does not have the database open,
// which it waits for.
func (m *Manager) whenClosed(ctx context.Context, id ID, kind orderKind) (kept string, err error) {
	e, err := m.hold(ctx, id)
	if err != nil {
		return "", err
	}
	defer m.letGo(e)
	want := &order{kind: kind}
	m.mu.Lock()
	if m.opening[e] != nil {
		m.unlock()
		return "", fmt.Errorf("%w: another Adopt or HandOver of it is under way", ErrInUse)
	}
	m.opening[e] = want
	m.unlock()
	defer func() {
		m.mu.Lock()
		delete(m.opening, e)
		m.unlock()
	}()
	// The pool opens a key only when nobody has it, and then openTenant does it.
	m.pool.Evict(e)
	lease, err := m.pool.Acquire(ctx, e)
	if err == nil {
		lease.Release()
	}
	m.mu.Lock()
	defer m.unlock()
	if err == nil || errors.Is(err, errHandedOver) {
		err = want.err
	}
	return want.kept, err
}

// HandOver ships what is left of a database and lets go of it, so that another
// machine can go on from there: nothing is open, and everything is at the replica.
// This Manager takes nothing it knows of the replica for granted any more: when the
// database is used here again, it looks first, and with WithRestoreOnOpen brings
// the file up to date. The other machine needs WithRestoreOnOpen, or Adopt.
//
// Stop sending the tenant's requests here first: an Acquire during HandOver fails
// with ErrInUse, one after it opens the database again. It waits until no lease is
// left; ctx bounds that. Errors: ErrNotFound, ErrNoReplica, ErrInUse for a second
// one at the same time, those of Sync, as *Error.
func (m *Manager) HandOver(ctx context.Context, id ID) error {
	return opError("hand over", id, m.handOver(ctx, id))
}

func (m *Manager) handOver(ctx context.Context, id ID) error {
	if _, err := m.replicated(id); err != nil {
		return err
	}
	// While it is open: the last to close it checkpoints, and then there is no proof
	// any more of what was committed since it was opened.
	if _, err := m.Sync(ctx, id); err != nil {
		return err
	}
	_, err := m.whenClosed(ctx, id, orderHandOver)
	return err
}

// errHandedOver is what an opening ends with that was made for a hand-over.
var errHandedOver = fmt.Errorf("%w: it is being handed over to another machine", ErrInUse)

// replicated is a known database of a Manager with a replica.
func (m *Manager) replicated(id ID) (*entry, error) {
	if m.cfg.replica == nil {
		return nil, ErrNoReplica
	}
	return m.lookup(id)
}

// orderedOnOpen is called while the pool opens a database, when nobody can have it
// open: it carries out what Adopt or HandOver wants. done reports whether there was
// anything.
func (m *Manager) orderedOnOpen(ctx context.Context, e *entry) (done bool, err error) {
	m.mu.Lock()
	want := m.opening[e]
	todo := want != nil && want.done == nil
	m.unlock()
	if !todo {
		return false, nil
	}
	o, err := m.perform(ctx, e, want.kind)
	m.mu.Lock()
	defer m.unlock()
	if want.err = err; o != nil {
		want.kept, want.done = o.kept, o.done
	}
	if err == nil && want.kind == orderHandOver {
		err = errHandedOver // the pool opens nothing
	}
	return true, err
}

// freshen is called while the pool opens a database whose file is there: with
// WithRestoreOnOpen it brings the file up to date, unless this process knows already
// that it is the newest.
func (m *Manager) freshen(ctx context.Context, e *entry) error {
	if m.cfg.replica == nil || !m.cfg.restoreOpen {
		return nil
	}
	m.mu.Lock()
	known := e.refused != nil && !errors.Is(e.refused, ship.ErrBehind) ||
		!e.item.Running() && e.peekLocked().verified
	m.unlock()
	if known {
		return nil
	}
	// A replica that does not answer keeps nobody from his file: then the first
	// write finds out.
	ctx, cancel := context.WithTimeout(ctx, freshenTime)
	defer cancel()
	o, err := m.perform(ctx, e, orderCheck)
	if err != nil && o != nil && m.withdraw(o) {
		return nil
	} else if o != nil {
		err = m.carriedOut(context.WithoutCancel(ctx), o) // no file is opened while it is replaced
	}
	if errors.Is(err, errReplacing) {
		return err
	}
	return nil
}

// withdraw ends what an order may do to the local file, which is about to be opened.
// false: it is doing it, or is done.
func (m *Manager) withdraw(o *order) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o.withdrawn = !o.replacing
	return o.withdrawn
}

// mayReplace reports whether the local file may be replaced now; from then on the
// order cannot be withdrawn. Without an operator's word it must be as it was when
// it was found to have nothing of its own.
func (m *Manager) mayReplace(r *runState) bool {
	now, err := m.statFiles(r.e.db.Path)
	m.mu.Lock()
	defer m.mu.Unlock()
	o := r.order
	if o.withdrawn || o.kind != orderAdopt && (err != nil || now != r.before) {
		return false
	}
	o.replacing = true
	return true
}

// errNotNow: the local file was opened or written while its successor was fetched.
var errNotNow = errors.New("the local file is in use")

// freshenTime bounds how long the opening of a database waits for the replica.
const freshenTime = 5 * time.Second

// errReplacing is a failure while one file takes the place of another.
var errReplacing = errors.New("the local file could not be replaced by the replica's")

// listing lists the replica for ship.Verify.
func (m *Manager) listing(ctx context.Context, e *entry, client litestream.ReplicaClient) (ship.Listing, error) {
	w := e.work
	l := ship.Listing{Began: m.cfg.boot(), Unknown: m.cfg.takeover == TakeoverUnknown, Local: w.takeOver}
	if asked := w.vacant; asked != 0 { // whoever made the file has asked
		if w.vacant = 0; l.Began-asked <= m.cfg.grace/4 {
			l.Began = asked
			return l, nil
		}
	}
	files, err := store.Files(ctx, client, false)
	if err != nil {
		return l, fmt.Errorf("list the replica: %w", err)
	}
	if w.unasked && len(files) > 0 && !l.Local {
		return l, fmt.Errorf("%w: %w, which did not answer when the file was made. Adopt (the backup wins, the file is kept aside) or take over (the file becomes the newest state)", ErrFenced, ErrBackupExists)
	}
	w.unasked = false
	l.Files = files
	l.Plan = func() ([]*ltx.FileInfo, error) {
		var inv levels.Inventory
		inv.Reset(files)
		return inv.RestorePlan(ctx, 0, time.Time{})
	}
	return l, nil
}

// maintains reports whether this Manager keeps a prefix in order: it wrote the last
// file there. Whoever only reads it compacts and deletes nothing.
func (m *Manager) maintains(st ship.State) bool {
	return m.isOurs(st.Origin.Node(), st.Origin.Session())
}

// distrust takes nothing for granted any more that is known of the replica. The
// caller owns e.work.
func (m *Manager) distrust(e *entry) {
	m.deactivate(e)
	w := e.work
	w.verified, w.clean, w.dirty, w.placed = false, false, true, 0
}

// fencedBehind is ErrFenced for a file that only lags.
func fencedBehind(err error) error {
	return fmt.Errorf("%w: %w; the local file has nothing that the replica lacks. "+
		"Adopt it (the replica wins), or use WithRestoreOnOpen, which does so when it is opened", ErrFenced, err)
}

// replaceLocal puts the replica's newest state in the place of the local file, which
// is set aside. The run owns e.work, and the pool does not have the file open.
func (m *Manager) replaceLocal(ctx context.Context, r *runState, why string) (kept string, err error) {
	e := r.e
	m.distrust(e)
	client, err := m.cfg.replica.ReplicaClient(e.db.database())
	if err != nil {
		return "", err
	}
	began := m.cfg.boot()
	files, err := store.Files(ctx, client, false)
	if err != nil {
		return "", fmt.Errorf("list the replica: %w", err)
	} else if len(files) == 0 {
		return "", ErrNoBackup
	}
	inv := new(levels.Inventory)
	inv.Reset(files)
	plan, err := inv.RestorePlan(ctx, 0, time.Time{})
	if err != nil {
		return "", err
	}
	aside := filepath.Join(filepath.Dir(e.db.Path), keptDir)
	incoming := filepath.Join(aside, filepath.Base(e.db.Path)+".incoming")
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} { // of a replacement that a crash cut off
		if err := os.Remove(incoming + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	if err := m.restoreFrom(ctx, client, inventoryClient{client, inv}, RestoreOptions{OutputPath: incoming}); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if !m.mayReplace(r) {
		return "", errors.Join(errNotNow, os.Remove(incoming))
	}
	if fi, err := os.Stat(e.db.Path); err == nil { // it may have been changed since
		if err := localfile.AccessOf(fi).Give(incoming); err != nil {
			return "", err
		}
	}
	if kept, err = setAside(ctx, e.db.Path, aside, why, m.cfg.now()); err != nil {
		return kept, fmt.Errorf("%w: %w", errReplacing, err)
	}
	if err := publish(incoming, e.db.Path); err != nil {
		return kept, fmt.Errorf("%w: it is set aside as %s: %w", errReplacing, kept, err)
	}
	if err := os.Remove(incoming); err != nil && !errors.Is(err, os.ErrNotExist) {
		return kept, err
	}
	st, packed, err := m.restored(ctx, e, client, inv, plan[len(plan)-1])
	if err != nil {
		return kept, err
	}
	*e.work = work{state: st, files: packed, verified: true, dirty: true, placed: began}
	r.drained = true
	r.before, err = m.statFiles(e.db.Path)
	id := pathID(e.db.Path)
	m.mu.Lock()
	m.setFileLocked(e, id)
	delete(m.absent, e.db.ID)
	e.health.txid, e.health.dirtySince = st.TXID, 0
	m.events = append(m.events, Event{Type: EventAdopted, ID: e.db.ID, Path: kept, TXID: st.TXID})
	m.unlock()
	return kept, err
}

// restored is the position of a file that was made from the replica just now: it is
// exactly the state at the end of last.
func (m *Manager) restored(ctx context.Context, e *entry, client litestream.ReplicaClient, inv *levels.Inventory, last *ltx.FileInfo) (st ship.State, files []byte, err error) {
	st.TXID = last.MaxTXID
	if st.Origin, err = ship.OriginOf(ctx, client, last); err != nil {
		return st, nil, err
	}
	if st.PageSize, err = sqlitedb.PageSize(ctx, e.db.Path); err != nil {
		return st, nil, err
	}
	if st.Print, err = m.ship.Print(ctx, e.db.Path); err != nil {
		return st, nil, err
	}
	st.Ino, st.Commit = st.Print.Ino, uint32(st.Print.Size/int64(st.PageSize))
	inv.Note(m.cfg.now(), m.cfg.grace)
	files, err = inv.AppendBinary(nil)
	return st, files, err
}

// keptDir is where files are set aside, beside the database. No pattern takes what
// is in it for one.
const keptDir = ".multidb-kept"

// setAside moves a database, with its log, to a directory beside it, under a name
// that says when and why. Nobody may have it open.
func setAside(ctx context.Context, path, dir, why string, now time.Time) (kept string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// With nothing left in its log it is one file, and one rename moves it. What
	// cannot be checkpointed is moved as it is.
	if fi, err := os.Stat(path + "-wal"); err == nil && fi.Size() > 0 {
		if conn, err := sqlitedb.OpenConn(ctx, path, time.Second); err == nil {
			_, _, _, err = conn.Checkpoint(ctx, "TRUNCATE")
			if err = errors.Join(err, conn.Close()); err != nil && ctx.Err() != nil {
				return "", err
			}
		}
	}
	base := filepath.Join(dir, filepath.Base(path)+"-"+now.UTC().Format("20060102T150405.000Z")+"-"+why)
	for n := 0; ; n++ {
		kept = base
		if n > 0 {
			kept = fmt.Sprintf("%s.%d", base, n)
		}
		if _, err := os.Lstat(kept); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return kept, err
		}
	}
	return kept, errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(path)))
}
