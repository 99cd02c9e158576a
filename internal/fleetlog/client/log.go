package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// Config is what a Log works with.
type Config struct {
	Journal *journal.Journal
	Objects store.Objects // the directory of the fleet log
	// MaxMemory is how many bytes of files are kept in memory although they are durable.
	// Above it, clients are Pressed; above twice as many, the oldest are dropped, and are
	// read from their objects when they are unpacked. Default 128 MiB.
	MaxMemory int64
	// Large is the size of a file, in bytes, above which it goes beside the log, and is not
	// held in memory. Default 1 MiB.
	Large int64
	// UnpackInterval is how often a tenant is unpacked that stays hot, which Erase counts on.
	UnpackInterval time.Duration
	Now            func() time.Time // default time.Now
	// Durable is called when a tenant's transactions up to txid are durable, or, with an
	// error, when this process will never know them to be. No lock is held. The tenant is
	// what Client was told.
	Durable func(tenant string, txid ltx.TXID, err error)
}

// Log is the tails of all tenants.
type Log struct {
	cfg  Config
	what journal.Reading // of a Log without a Journal

	mu        sync.Mutex
	tails     map[string][]*tailFile // by prefix, in the order of their TXIDs
	waiting   map[*tailFile][]chan error
	durable   []*tailFile                      // those with their data, the oldest first; some are unpacked
	kept      int                              // how many of them are not
	memory    int64                            // bytes of their data
	pending   map[object]int                   // files that are durable and in a tail, by the object that has their records
	tailBytes int64                            // of all tails
	ahead     map[aheadKey]*ahead              // of a Log that only reads: files that were read before they were opened
	known     map[string]ltx.TXID              // by prefix: where it ends, as this process has unpacked it
	excluded  map[string]*exclusion            // by prefix: those that are unpacked or erased now
	elsewhere map[uint64]map[string]*elsewhere // by epoch and prefix
	former    map[uint64]bool                  // the epochs of logs that were taken over, of which all is known
	unpacks   int64
	ready     bool  // what the logs have is known
	err       error // this process will never know what is not durable to be
}

// tailFile is a level 0 file that is not in its prefix.
type tailFile struct {
	min, max ltx.TXID
	created  int64 // in milliseconds since 1970
	size     int64
	data     []byte // nil: it is to be read from the object
	large    uint64 // the number of the large file that it is, or 0
	place    object // that has its record, of a durable one; of a large one at least the epoch
	offset   int64  // there, of one that is not large
	merged   *parts // nil: it is as it was taken
	crc      uint32
	pageSize uint32 // 0: not known
	durable  bool
}

// object is one of a log.
type object struct{ epoch, seq uint64 }

func (f *tailFile) info() *ltx.FileInfo {
	return &ltx.FileInfo{MinTXID: f.min, MaxTXID: f.max, Size: f.size, CreatedAt: time.UnixMilli(f.created).UTC()}
}

// New returns a Log without tails.
func New(cfg Config) *Log {
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = 128 << 20
	}
	if cfg.Large == 0 {
		cfg.Large = 1 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Log{
		cfg: cfg, tails: map[string][]*tailFile{}, excluded: map[string]*exclusion{}, waiting: map[*tailFile][]chan error{},
		pending: map[object]int{}, known: map[string]ltx.TXID{}, ahead: map[aheadKey]*ahead{}, elsewhere: map[uint64]map[string]*elsewhere{},
		former: map[uint64]bool{},
	}
}

// Read returns a Log that only reads: what the logs of a store have, as they are now, that
// no prefix may have.
func Read(ctx context.Context, objects store.Objects) (*Log, error) {
	return read(ctx, objects, journal.Reading{})
}

// ReadTenant returns a Log that only reads, and knows one prefix alone. With history it has
// all that the logs still have of it, also what the prefix has, for a restore to a
// transaction or time. It needs memory for that tenant only.
func ReadTenant(ctx context.Context, objects store.Objects, prefix string, history bool) (*Log, error) {
	return read(ctx, objects, journal.Reading{Prefix: prefix, History: history})
}

func read(ctx context.Context, objects store.Objects, what journal.Reading) (*Log, error) {
	l := New(Config{Objects: objects})
	l.what = what
	return l, l.begin(ctx)
}

// begin makes known what the logs have that were taken over, some of which may be in the
// prefixes by now. Nothing may be read or written of a tenant before. A Log that only reads
// reads all logs, again after it was outdated.
func (l *Log) begin(ctx context.Context) error {
	l.mu.Lock()
	ready, lost := l.ready, l.err
	l.mu.Unlock()
	if lost != nil || ready {
		return lost
	}
	var taken journal.Taken
	var err error
	if l.cfg.Journal == nil {
		taken.Logs, err = journal.Read(ctx, l.cfg.Objects, l.what)
	} else {
		taken, err = l.cfg.Journal.Join(ctx)
	}
	if err != nil {
		return fenced(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ready {
		l.loadLocked(taken)
	}
	return nil
}

// outdated makes a Log that only reads read the logs again: an object is gone.
func (l *Log) outdated() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Journal == nil && l.ready {
		l.ready = false
		l.tails, l.pending, l.tailBytes = map[string][]*tailFile{}, map[object]int{}, 0
		clear(l.ahead)
	}
}

// fenced says of an error that another process has taken over that it fences the database.
func fenced(err error) error {
	if errors.Is(err, fleetlog.ErrFenced) {
		return fmt.Errorf("%w: %w", ship.ErrFenced, err)
	}
	return err
}

// loadLocked makes known what logs have.
func (l *Log) loadLocked(taken journal.Taken) {
	l.ready = true
	for _, log := range taken.Logs {
		for _, r := range log.Records {
			if taken.Has(r.Prefix) {
				l.addLocked(r.Prefix, recorded(log, r))
			} else {
				l.elsewhereLocked(log.Epoch, r)
			}
		}
	}
	for _, log := range taken.Known {
		for _, r := range log.Records {
			if f := l.elsewhere[log.Epoch][r.Prefix]; f != nil && taken.Has(r.Prefix) { // else it is known to be done, and the log may be gone
				f.came = true
				l.addLocked(r.Prefix, recorded(log, r))
			}
		}
	}
	for _, all := range l.elsewhere {
		maps.DeleteFunc(all, func(_ string, f *elsewhere) bool { return f.came })
	}
	for _, epoch := range taken.Epochs {
		l.former[epoch] = true
	}
	for _, tail := range l.tails {
		slices.SortStableFunc(tail, func(a, b *tailFile) int { return cmp.Compare(a.min, b.min) })
	}
}

// Begin begins the log, if it has not begun, and takes in what was taken over with it.
func (l *Log) Begin(ctx context.Context) error { return l.begin(ctx) }

// TakeIn makes known what logs have that were taken over after Begin.
func (l *Log) TakeIn(taken journal.Taken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loadLocked(taken)
}

// Over forgets what a log had that another process has finished: it is in the prefixes.
func (l *Log) Over(epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.elsewhere, epoch)
	for prefix := range l.tails {
		l.removeLocked(prefix, func(f *tailFile) bool { return f.durable && f.place.epoch == epoch })
	}
}

// Away forgets what is known of a prefix of which the log has nothing that it lacks, and that
// another process goes on with.
func (l *Log) Away(prefix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, prefix)
}

// FinishFormer finishes the logs that were taken over and of which no tail has a file any
// more. One that is just being taken over waits until it is known what it has.
func (l *Log) FinishFormer(ctx context.Context) error {
	if l.cfg.Journal == nil {
		return nil
	}
	var errs []error
	for _, epoch := range l.cfg.Journal.Former() {
		if !l.holds(epoch) {
			errs = append(errs, l.cfg.Journal.Finish(ctx, epoch))
		}
	}
	return errors.Join(errs...)
}

// holds reports whether a tail may have a file of an epoch, this process's or that of another owner.
func (l *Log) holds(epoch uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.former[epoch] || len(l.elsewhere[epoch]) > 0 {
		return true
	}
	for o := range l.pending {
		if o.epoch == epoch {
			return true
		}
	}
	return false
}

// settled notes what became of a file.
func (l *Log) settled(tenant string, f *tailFile, at journal.Place, err error) {
	err = fenced(err)
	l.mu.Lock()
	if err != nil && l.err == nil {
		l.err = err
	}
	if f.durable = err == nil; f.durable {
		f.place = object{at.Epoch, at.Seq}
		l.pending[f.place]++
		if f.large == 0 {
			f.offset, f.crc = at.Offset, format.Checksum(f.data)
			l.keepLocked(f)
		}
	}
	waiting := l.waiting[f]
	delete(l.waiting, f)
	l.mu.Unlock()
	for _, done := range waiting {
		done <- err
	}
	l.cfg.Durable(tenant, f.max, err)
}

// Failed notes that an attempt at the store has failed, which goes on: whoever waits in
// Await gets the error, as a run must not wait for as long as the store is away.
func (l *Log) Failed(err error) {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = map[*tailFile][]chan error{}
	l.mu.Unlock()
	for _, all := range waiting {
		for _, done := range all {
			done <- err
		}
	}
}

// drop forgets a file that the log has not taken.
func (l *Log) drop(prefix string, f *tailFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(prefix, func(g *tailFile) bool { return g == f })
}

// tail is a copy of a tenant's tail.
func (l *Log) tail(prefix string) (tail []*tailFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.tails[prefix] {
		c := *f
		tail = append(tail, &c)
	}
	return tail
}

// Client returns the client of a prefix: inner, with the log in front of it. Durable gets
// tenant.
func (l *Log) Client(tenant, prefix string, inner litestream.ReplicaClient) *Client {
	return &Client{ReplicaClient: inner, log: l, tenant: tenant, prefix: prefix}
}
