// Package drill proves that backups restore, by restoring them: all databases, one after the
// other, spaced over the days, to a file that is thrown away. It says whose turn it is, and
// when each was last proved, which the notes of the catalog keep between runs of the process.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// Config is what drills go by.
type Config struct {
	PerDay int           // one drill begins in each part of a day that is cut into so many
	MaxAge time.Duration // after which a proof is too old; 0: never

	Now  func() time.Time
	Rand func() float64 // in [0,1)

	// Tenant is what is known of a database now; false: it has no backup to be proved. Fleet
	// and disk are asked without a lock.
	Tenant func(id string) (Tenant, bool)
	// Client returns a client that reads what a restore of the database does.
	Client func(id string) (litestream.ReplicaClient, error)
	// Free is how many bytes may be written to a directory; see Free.
	Free func(dir string) (int64, error)
	// Reserve takes room for a file of that many bytes within the limit of the local disk, until
	// release is called; false: there is none. Nil: there is no limit.
	Reserve func(size int64) (release func(), ok bool)
	// Damage reports whether an error says by itself that a backup does not restore, and
	// Passing whether it says nothing about the backup.
	Damage, Passing func(error) bool
	// Put keeps a note of a database, or deletes it (nil). It is called under a lock, and must
	// not block.
	Put func(id string, note []byte)
	// Told gets the outcome of each drill that told something: what was restored, or why the
	// backup is not proved.
	Told   func(id string, txid ltx.TXID, failed error)
	Logger *slog.Logger
}

// Tenant is a database as it is known.
type Tenant struct {
	TXID ltx.TXID // the replica was known to have it; 0: nothing is compared
	Size int64    // of the file, about
}

const (
	// pauseAfter is when one is tried again whose drill could not be, and one that had no
	// backup is asked about again.
	pauseAfter = time.Hour
	// retryFailed is when one is tried again whose drill failed.
	retryFailed = 24 * time.Hour
	// notAgain is how long one that was proved is left alone, however many drills a day there
	// may be.
	notAgain = 20 * time.Hour
	// patience is how long one may take, and a second for each MiB of the file, before a store
	// that does not answer is taken for the reason.
	patience = time.Hour
	// spare is what a drill leaves free of the disk.
	spare = 64 << 20
	// mostPassed is how many databases without a backup are passed over in one go.
	mostPassed = 10_000
)

// Drills are the drills of a fleet. The nil value has none. Safe for concurrent use; its
// lock is taken below that of the fleet, and above that of the catalog.
type Drills struct {
	cfg  Config
	done chan struct{} // closed when Run has ended

	mu      sync.Mutex
	order   *order
	known   bool               // what the notes say is known
	running bool               // Run was called
	current *node              // that is being drilled
	cancel  context.CancelFunc // ends its drill
	counts  Counts
}

// Counts are what drills did since the start, and what is known now.
type Counts struct {
	Done, Failed, Postponed int64
	Unproved, Failing       int
	Oldest                  time.Time
}

// New returns drills that have not begun.
func New(cfg Config) *Drills {
	return &Drills{cfg: cfg, order: newOrder(), done: make(chan struct{})}
}

// Add makes a database known.
func (d *Drills) Add(id string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order.all.Get(id) == nil {
		d.rememberSince(d.order.add(id, d.cfg.Now().UnixMilli()))
	}
}

// rememberSince keeps since when a database is known, where that is asked for.
func (d *Drills) rememberSince(n *node) {
	if d.known && d.cfg.MaxAge > 0 && !n.tried {
		n.noted = true
		d.cfg.Put(n.id, d.order.proof(n).encode())
	}
}

// Forget forgets a database and its note, and ends its drill.
func (d *Drills) Forget(id string) { d.forget(id, true) }

// Leave is Forget for a database that another node drills from now on; its note stays.
func (d *Drills) Leave(id string) { d.forget(id, false) }

func (d *Drills) forget(id string, note bool) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.order.all.Get(id)
	if n == nil {
		return
	}
	d.order.remove(n)
	if note {
		d.cfg.Put(id, nil)
	}
	if n == d.current {
		d.cancel()
		d.current = nil
	}
}

// Load takes in the notes that the process before has left. Those of databases that are not
// known are deleted. Before Run.
func (d *Drills) Load(notes iter.Seq2[string, []byte]) {
	for id, note := range notes {
		d.load(id, note)
	}
	d.mu.Lock()
	d.known = true
	var others []string
	for n := range d.order.all.All() {
		if !n.noted {
			others = append(others, n.id)
		}
	}
	d.mu.Unlock()
	for _, id := range others {
		d.mu.Lock()
		if n := d.order.all.Get(id); n != nil {
			d.rememberSince(n)
		}
		d.mu.Unlock()
	}
}

func (d *Drills) load(id string, note []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.order.all.Get(id)
	if n == nil {
		d.cfg.Put(id, nil)
		return
	}
	if p, ok := decode(note); ok {
		n.noted = true
		d.order.take(n)
		d.order.set(n, p)
	}
}

// Proof is when a database was last proved, zero if it was not, and why its last drill
// failed, "" if it did not, and when.
func (d *Drills) Proof(id string) (proved time.Time, failed string, tried time.Time) {
	if d == nil {
		return proved, "", tried
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.order.all.Get(id)
	if n == nil {
		return proved, "", tried
	}
	p := d.order.proof(n)
	return moment(p.proved), p.err, moment(p.tried)
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Late returns the databases whose last drill failed, and, with a MaxAge, those that were
// not proved for longer, since they are known.
func (d *Drills) Late() (ids []string) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var since int64
	if d.cfg.MaxAge > 0 {
		since = d.cfg.Now().Add(-d.cfg.MaxAge).UnixMilli()
	}
	d.order.late(since, d.current, func(n *node) { ids = append(ids, n.id) })
	return ids
}

// Counts returns the counts. It costs the same however many databases there are.
func (d *Drills) Counts() Counts {
	if d == nil {
		return Counts{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Unproved, c.Failing = d.order.unproved, len(d.order.failures)
	c.Oldest = moment(d.order.oldest(d.current))
	return c
}

// Run does the drills until ctx ends. dir is the directory of the throw-away file.
func (d *Drills) Run(ctx context.Context, dir string) {
	defer close(d.done)
	d.mu.Lock()
	d.running = true
	n := d.order.all.Len()
	d.mu.Unlock()
	part := 24 * time.Hour / time.Duration(d.cfg.PerDay)
	if round := time.Duration(n) * part; d.cfg.MaxAge > 0 && round > d.cfg.MaxAge {
		d.cfg.Logger.Warn("multidb: drills take longer to come round than a proof may be old; raise their number a day", "databases", n, "round", round, "max age", d.cfg.MaxAge)
	}
	begin := time.Now()
	for slot := 0; ; slot++ {
		// One drill in each part, somewhere in it, so that what hundreds of processes do at
		// their start does not meet. A part that a long drill has taken is left out.
		if behind := int(time.Since(begin) / part); behind > slot {
			slot = behind
		}
		at := begin.Add(time.Duration(slot)*part + time.Duration(d.cfg.Rand()*float64(part)))
		if ctxio.Sleep(ctx, time.Until(at)) != nil {
			return
		}
		d.one(ctx, dir, slot)
	}
}

// Wait waits until Run has ended, if it has begun, or ctx ends.
func (d *Drills) Wait(ctx context.Context) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	running := d.running
	d.mu.Unlock()
	if !running {
		return nil
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// one drills the database whose turn it is.
func (d *Drills) one(ctx context.Context, dir string, slot int) {
	for range mostPassed {
		if ctx.Err() != nil {
			return
		}
		now := d.cfg.Now()
		d.mu.Lock()
		d.order.back(now)
		again := notAgain
		if d.cfg.MaxAge > 0 {
			again = min(again, d.cfg.MaxAge/2)
		}
		n := d.order.next(slot%2 == 1, now.Add(-retryFailed).UnixMilli(), now.Add(-again).UnixMilli())
		if n == nil {
			d.mu.Unlock()
			return
		}
		mine, cancel := context.WithCancel(ctx)
		d.current, d.cancel = n, cancel
		d.mu.Unlock()
		t, ok := d.cfg.Tenant(n.id)
		var last ltx.TXID
		var err error
		if ok {
			last, err = d.prove(mine, dir, n.id, t)
		} else {
			err = errNone
		}
		cancel()
		d.ended(ctx, n, last, err)
		if ok {
			return
		}
	}
}

// errNone: the database has no backup yet.
var errNone = errors.New("there is no backup yet")

// unprovedError is why a backup is not proved.
type unprovedError struct{ error }

func (e unprovedError) Unwrap() error { return e.error }

// ended takes in how a drill ended.
func (d *Drills) ended(ctx context.Context, n *node, last ltx.TXID, err error) {
	now := d.cfg.Now()
	var unproved unprovedError
	d.mu.Lock()
	gone := d.current != n // forgotten meanwhile
	d.current = nil
	switch {
	case gone:
	case err == errNone:
		d.order.setAside(n, now.Add(pauseAfter))
	case err == nil:
		d.counts.Done++
		d.conclude(n, proof{proved: now.UnixMilli(), tried: now.UnixMilli(), txid: last})
	case errors.As(err, &unproved):
		d.counts.Failed++
		was := d.order.proof(n)
		d.conclude(n, proof{proved: was.proved, tried: now.UnixMilli(), txid: last, err: text(unproved)})
	case ctx.Err() != nil:
		d.order.home(n)
	default:
		d.counts.Postponed++
		d.order.setAside(n, now.Add(pauseAfter))
	}
	d.mu.Unlock()
	switch {
	case gone || err == errNone:
	case err == nil:
		d.cfg.Told(n.id, last, nil)
	case unproved.error != nil:
		d.cfg.Told(n.id, last, unproved.error)
	case ctx.Err() == nil:
		d.cfg.Logger.Warn("multidb: a drill could not be done; it is tried again later", "id", n.id, "err", err)
	}
}

// conclude notes the outcome of a drill, here and in the catalog.
func (d *Drills) conclude(n *node, p proof) {
	d.order.set(n, p)
	d.cfg.Put(n.id, p.encode())
}

// prove restores a database, and returns up to which transaction. An unprovedError says that
// the backup is not good; any other error says nothing about it.
func (d *Drills) prove(ctx context.Context, dir, id string, t Tenant) (last ltx.TXID, err error) {
	free, err := d.cfg.Free(dir)
	if err != nil {
		return 0, err
	}
	if need := t.Size + spare; free < need {
		return 0, fmt.Errorf("%s has %d bytes left, and the drill needs %d", dir, free, need)
	}
	if d.cfg.Reserve != nil {
		release, ok := d.cfg.Reserve(t.Size)
		if !ok {
			return 0, fmt.Errorf("the limit of the local disk has no room for the %d bytes that the drill needs", t.Size)
		}
		defer release()
	}
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(t.Size>>20)*time.Second)
	defer cancel()
	// What looks like damage is looked at twice: what was read may have been changed by a
	// compaction meanwhile, or on its way.
	for range 2 {
		if last, err = d.restore(ctx, filepath.Join(dir, "drill"), id); err == nil {
			now, known := d.cfg.Tenant(id) // another writer's state may have become its own
			want := t.TXID
			if known {
				want = min(want, now.TXID)
			}
			if last != 0 && last < want {
				err = unprovedError{fmt.Errorf("it restores up to transaction %s, but %s was acknowledged", last, want)}
			}
		}
		var unproved unprovedError
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		} else if !errors.As(err, &unproved) {
			break
		}
	}
	return last, err
}

// restore restores a database below a directory that does not exist before and after.
func (d *Drills) restore(ctx context.Context, dir, id string) (last ltx.TXID, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	defer func() {
		if rm := os.RemoveAll(dir); rm != nil {
			d.cfg.Logger.Warn("multidb: what a drill has restored could not be removed", "path", dir, "err", rm)
		}
	}()
	client, err := d.cfg.Client(id)
	if err != nil {
		return 0, err
	}
	from, err := store.RestoreClient(ctx, client, false)
	if err != nil && d.cfg.Damage(err) {
		return 0, unprovedError{err}
	} else if err != nil {
		return 0, err
	}
	w := &watched{ReplicaClient: from}
	made, err := restore.From(ctx, client, w, restore.Options{Output: filepath.Join(dir, "db"), Check: sqlitedb.Full, Warn: func(string) {}})
	last = made.Header.MaxTXID
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case err == nil:
		return last, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case d.cfg.Damage(err):
		return last, unprovedError{err}
	case w.failed() != nil:
		return 0, w.failed()
	case w.missing() != nil:
		return last, unprovedError{fmt.Errorf("a file that is listed is not there: %w", w.missing())}
	case d.cfg.Passing(err), errors.As(err, &path), errors.As(err, &errno):
		return 0, err
	}
	return last, unprovedError{err}
}
