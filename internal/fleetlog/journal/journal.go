// Package journal writes the fleet log of one process life: it takes files of many
// tenants, puts them into one object per interval, and says of each when it is durable. It
// makes the requests that the machines of package fleetlog ask for, and decides nothing
// that they decide.
//
// One goroutine owns the machines. A lock guards the queue; no request is made and no
// callback is called under it. Safe for concurrent use.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// Errors of Append, beside store.ErrNoConditionalWrites and format.ErrNewer, with which a
// Journal ends whose store can never keep it.
var (
	// ErrFull is returned when as much is queued as may be: try again when something was
	// acknowledged. The tenant's own WAL holds what is not queued.
	ErrFull = errors.New("the fleet log has too much that the store has not taken")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the fleet log is closed")
)

// Config is how a Journal works. Store, Life and Node are required.
type Config struct {
	Store store.Objects // the directory of the fleet log
	Life  format.ID     // the random number of this process life
	Node  string        // where it is found, for people

	// Share: other processes have epochs beside this one. The log then begins without shards and
	// takes over no log but those of the lives in Ended, processes that are known to have
	// ended; what it owns the caller decides by TakeOver, Claim and Release.
	Share bool
	Ended []format.ID

	// Check is called before the log begins, without Share. refused: this process is not to have a log,
	// which then ends with that; else it is tried again after an error. Nil: not.
	Check func(ctx context.Context) (refused bool, err error)

	// Interval is the time between two objects while files keep coming. Default 1 s.
	Interval time.Duration
	// Soon is the time between two objects while somebody waits (Hurry). Default 100 ms.
	Soon time.Duration
	// MaxObject is how many bytes of files one object has. Default 16 MiB; at least one
	// file is always taken.
	MaxObject int64
	// MaxQueued bounds the bytes of files that are not acknowledged, under way or not.
	// Default 64 MiB; at least one file is always taken.
	MaxQueued int64
	// Retention is for how long an object stays after it was acknowledged, though all of it
	// is in the prefixes, for restores to a time. Default 1 h.
	Retention time.Duration
	// MaxPause is the longest pause between two attempts at the store. Default 15 s.
	MaxPause time.Duration
	// Failed is called with each failure of an attempt at the store, after which it is tried
	// again; no lock is held. Nil: not.
	Failed func(error)
	// Fenced is called once if another process takes over: after the last done that has no
	// error, and before the first that has this one. No lock is held.
	Fenced func(error)
	// Began is called once, when the log of an epoch has begun, with the logs that it has
	// ended, and Finished with the epoch of each of those of which nothing is left. No lock
	// is held. Nil: not.
	Began    func(epoch uint64, ended []Ended)
	Finished func(epoch uint64)
	// TookOver is called by TakeOver with the log that it has ended. Nil: not.
	TookOver func(Ended)
	Now      func() time.Time // default time.Now
	Logger   *slog.Logger     // default: none
}

// attempts is how often a closing Journal tries at a store that fails.
const attempts = 3

// Journal is the log of this process life. It begins with the first file: until then it
// makes no request.
type Journal struct {
	cfg  Config
	req  requests
	wake chan struct{} // of the goroutine; holds one
	done chan struct{} // the goroutine has ended
	stop context.CancelCauseFunc

	mu        sync.Mutex
	queue     []*write            // in the order in which they came
	unacked   map[*write]struct{} // in the queue and under way
	bytes     int64               // of all in unacked
	hurry     bool                // somebody waits
	hurried   chan struct{}       // closed by Hurry, which makes another
	room      chan struct{}       // closed when something was acknowledged, or failed; nil: nobody waits
	err       error               // why nothing is taken any more
	failing   error               // of the last attempt at the store; nil: it has answered
	stats     Stats
	keep      map[uint64]int    // by number: files of our objects that are not unpacked
	pins      []pin             // objects that make records of former logs void
	others    map[uint64]uint64 // by epoch: up to where pins make records void of logs that others write
	deletable uint64            // F4
	forced    uint64            // objects below are deleted as soon as they may be, as something in them was erased
	large     uint64            // the number of the last large file
	packed    uint64            // below which there are none
	tails     []*fleetlog.Tail  // of the logs that were taken over
	over      map[uint64]bool   // those of them that another process had finished by then
	ours      map[int]bool      // the shards that came with them at the beginning; nil: all
	beside    []*format.Log     // what others had then, which may make records of them void
	known     *format.Map       // the newest map that was read; nil: none
	closing   bool
	wanted    bool          // somebody wants the log to begin, though there is no file
	joined    chan struct{} // closed when it has begun

	doubt *doubt // nil: none. It is of the caller who changes the map (Config.Share), and so is gift
	gift  *gift
}

// write is a file that is not acknowledged.
type write struct {
	file   format.File
	done   func(Place, error)
	forget bool          // no file: all of its prefix before it is void
	below  []format.Mark // of forget: the ends of logs that others write
	// release: no file: these shards are given up (F6).
	release []int
}

// Ended is a log that was taken over.
type Ended struct {
	Epoch uint64
	Node  string // Config.Node of its writer
}

// Place is where a file is that is durable.
type Place struct {
	Epoch, Seq uint64
	Offset     int64 // in the object
}

// Stats is what a Journal did and has.
type Stats struct {
	Epoch   uint64 // 0: nothing was written yet
	Acked   uint64 // the number of the last acknowledged object
	Objects int64  // acknowledged
	Files   int64  // in them
	Bytes   int64  // of the objects
	Queued  int    // files that are not acknowledged
	// Waiting is since when files have been queued and none was acknowledged; zero: none is.
	Waiting time.Time
	// Failing is the error of the last attempt at the store, and FailingSince when they began
	// to fail; nil: it has answered.
	Failing      error
	FailingSince time.Time
	Fenced       bool      // another process has taken over
	Ended        time.Time // when that was found out, or the log was closed
}

// New returns a Journal that has begun nothing.
func New(cfg Config) *Journal {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&cfg.Interval, time.Second)
	def(&cfg.Soon, 100*time.Millisecond)
	def(&cfg.MaxPause, 15*time.Second)
	def(&cfg.Retention, time.Hour)
	if cfg.MaxObject == 0 {
		cfg.MaxObject = 16 << 20
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = 64 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	j := &Journal{
		cfg: cfg, req: requests{store: cfg.Store}, stop: stop,
		wake: make(chan struct{}, 1), done: make(chan struct{}), unacked: map[*write]struct{}{}, joined: make(chan struct{}), hurried: make(chan struct{}), keep: map[uint64]int{}, others: map[uint64]uint64{}, packed: 1,
	}
	go j.run(ctx)
	return j
}

// Append queues a file; if as much is queued as may be, it waits until there is room, until
// an attempt at the store has failed (ErrFull), or for the end of ctx. Those of one tenant
// become durable in the order in which they came. done is called once, by another goroutine and with no lock held:
// with nil when it is durable, and with fleetlog.ErrFenced, or ErrClosed, when this Journal
// will never know it to be. The data must not change until then.
func (j *Journal) Append(ctx context.Context, file format.File, done func(Place, error)) error {
	for size := int64(len(file.Data)); ; {
		j.mu.Lock()
		var err error
		var wait chan struct{}
		switch {
		case j.err != nil:
			err = j.err
		case j.closing:
			err = ErrClosed
		case j.bytes == 0 || j.bytes+size <= j.cfg.MaxQueued:
			w := &write{file: file, done: done}
			if len(j.unacked) == 0 {
				j.stats.Waiting = j.cfg.Now()
			}
			j.queue, j.bytes = append(j.queue, w), j.bytes+size
			j.unacked[w] = struct{}{}
			j.poke()
		case j.failing != nil:
			err = fmt.Errorf("%w: %w", ErrFull, j.failing)
		default:
			wait = j.changesLocked()
		}
		j.mu.Unlock()
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// changesLocked is closed by changedLocked.
func (j *Journal) changesLocked() chan struct{} {
	if j.room == nil {
		j.room = make(chan struct{})
	}
	return j.room
}

// changedLocked wakes those who wait for room, or for the log to begin.
func (j *Journal) changedLocked() {
	if j.room != nil {
		close(j.room)
		j.room = nil
	}
}

// failed notes that an attempt at the store has failed.
func (j *Journal) failed(err error) {
	j.mu.Lock()
	if j.failing == nil {
		j.stats.FailingSince = j.cfg.Now()
	}
	j.failing = err
	j.changedLocked()
	j.mu.Unlock()
	j.cfg.Failed(err)
}

// Join begins the log, if it has not begun, and returns what the logs have that were
// taken over. If the store does not answer, the error is
// that of the last attempt, while the Journal tries on. Before that nothing is known of what they
// have that no prefix has.
func (j *Journal) Join(ctx context.Context) (Taken, error) {
	if err := j.join(ctx); err != nil {
		return Taken{}, err
	}
	return j.takenOver(), nil
}

func (j *Journal) join(ctx context.Context) error {
	for tried := false; ; tried = true {
		j.mu.Lock()
		j.wanted = true
		j.poke()
		failing, changed := j.failing, j.changesLocked()
		if !tried {
			j.hurryLocked() // the next attempt may be far away
		}
		j.mu.Unlock()
		select {
		case <-j.joined:
			return nil
		default:
		}
		if tried && failing != nil {
			return fmt.Errorf("the fleet log cannot begin: %w", failing)
		}
		select {
		case <-j.joined:
			return nil
		case <-j.done:
			if err := j.Err(); err != nil {
				return err
			}
			return ErrClosed
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Large creates a large file beside the objects, with the next size bytes of r, and returns
// its number, which a Record of Append names then. Before that it is nobody's, and is
// deleted with the log. After an error another attempt gets another number.
func (j *Journal) Large(ctx context.Context, r io.Reader, size int64) (number uint64, err error) {
	if err := j.join(ctx); err != nil {
		return 0, err
	}
	j.mu.Lock()
	epoch := j.stats.Epoch
	j.large++
	number, err = j.large, j.err
	j.mu.Unlock()
	if err != nil {
		return 0, err
	}
	failpoint.Hit("fleetlog.large.before")
	err = j.cfg.Store.CreateFrom(ctx, format.LargeName(epoch, number), r, size)
	failpoint.Hit("fleetlog.large.after")
	return number, failpoint.Err("fleetlog.large.lost", err)
}

// Drop deletes a large file that no record will name. What stays is deleted with the log.
func (j *Journal) Drop(ctx context.Context, number uint64) {
	name := format.LargeName(j.Stats().Epoch, number)
	if err := j.cfg.Store.Delete(ctx, name); err != nil {
		j.cfg.Logger.Warn("multidb: a large file of the fleet log cannot be deleted", "object", name, "err", err)
	}
}

// Unpacked notes that one of the files of an object, which is durable, is in its prefix
// too. The objects to come say so, and those that nobody needs are deleted.
func (j *Journal) Unpacked(epoch, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if epoch != j.stats.Epoch {
		return // of a log that was taken over
	}
	j.dropLocked(seq)
	j.packLocked()
}

// dropLocked notes that nobody needs one thing of an object any more.
func (j *Journal) dropLocked(seq uint64) {
	if j.keep[seq]--; j.keep[seq] <= 0 {
		delete(j.keep, seq)
	}
}

// packLocked moves packed on.
func (j *Journal) packLocked() {
	for j.packed <= j.stats.Acked && j.keep[j.packed] == 0 {
		j.packed++
	}
	if j.forced > 0 {
		j.poke()
	}
}

// Begun is closed when the log has begun.
func (j *Journal) Begun() <-chan struct{} { return j.joined }

// Hurry has what is queued written sooner. After a failure the next attempt comes sooner,
// too.
func (j *Journal) Hurry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hurry = true
	j.hurryLocked()
	j.poke()
}

// hurryLocked ends the pause after a failure.
func (j *Journal) hurryLocked() {
	close(j.hurried)
	j.hurried = make(chan struct{})
}

// pause waits between two attempts, or until somebody is in a hurry; the error is that of
// ctx.
func (j *Journal) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	j.mu.Lock()
	hurried := j.hurried
	j.mu.Unlock()
	if err := ctxio.Sleep(ctx, min(d, j.cfg.Soon)); err != nil || d <= j.cfg.Soon {
		return err
	}
	j.mu.Lock()
	closing := j.closing
	j.mu.Unlock()
	if closing {
		return nil
	}
	timer := time.NewTimer(d - j.cfg.Soon)
	defer timer.Stop()
	select {
	case <-hurried:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *Journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Stats returns what the Journal did.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Queued, s.Fenced = len(j.unacked), errors.Is(j.err, fleetlog.ErrFenced)
	if s.Queued == 0 {
		s.Waiting = time.Time{}
	}
	if s.Failing = j.failing; s.Failing == nil {
		s.FailingSince = time.Time{}
	}
	return s
}

// Err is why nothing is taken any more: fleetlog.ErrFenced, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Close takes nothing more, writes what is queued, and ends. If ctx ends first it goes on
// closing, and Close may be called again. If the store fails three times, what is not
// acknowledged gets its error, and so does the caller.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	j.closing = true
	close(j.hurried)
	j.hurried = make(chan struct{})
	j.changedLocked()
	j.poke()
	j.mu.Unlock()
	select {
	case <-j.done:
		return j.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop ends at once. What is not acknowledged gets ErrClosed.
func (j *Journal) Stop() {
	j.stop(ErrClosed)
	<-j.done
}

// run is the goroutine.
func (j *Journal) run(ctx context.Context) {
	defer close(j.done)
	err := j.write(ctx)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	j.mu.Lock()
	if j.err = err; err == nil {
		j.closing, err = true, ErrClosed
	}
	var left []*write
	for w := range j.unacked {
		left = append(left, w)
	}
	j.queue, j.bytes, j.stats.Ended = nil, 0, j.cfg.Now()
	clear(j.unacked)
	j.changedLocked()
	j.mu.Unlock()
	if errors.Is(err, fleetlog.ErrFenced) && j.cfg.Fenced != nil {
		j.cfg.Fenced(err)
	}
	for _, w := range left {
		w.done(Place{}, err)
	}
}

// write writes the log until it is closed or fenced, and says why it has ended.
func (j *Journal) write(ctx context.Context) error {
	if err := j.await(ctx); err != nil {
		return err
	}
	w, err := j.begin(ctx)
	if err != nil {
		return err
	}
	l := &loop{Journal: j, w: w, answers: make(chan answer), flying: map[uint64]*flight{}, larges: map[uint64][]uint64{}, trim: 1, gone: 1, told: 1}
	defer l.land()
	return l.run(ctx)
}

// await waits for the first file, or for Close.
func (j *Journal) await(ctx context.Context) error {
	for {
		j.mu.Lock()
		some, closing := len(j.queue) > 0 || j.wanted, j.closing
		j.mu.Unlock()
		if some {
			return nil
		} else if closing {
			return ErrClosed
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
