package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// requests makes the requests that the machines of fleetlog ask for.
type requests struct {
	store  store.Objects
	prefix string // of what is read, the records of this one alone count; "": all
}

// create answers an Ask to create. The error says why the outcome is not known.
func (r requests) create(ctx context.Context, a fleetlog.Ask) (fleetlog.Outcome, error) {
	switch err := r.store.Create(ctx, a.Name, a.Data); {
	case err == nil:
		return fleetlog.Created, nil
	case errors.Is(err, fs.ErrExist):
		return fleetlog.Exists, nil
	default:
		return fleetlog.Unknown, err
	}
}

// end returns the last n bytes of an object; nil if there is none.
func (r requests) end(ctx context.Context, name string, n int64) (b []byte, err error) {
	rc, err := r.store.Open(ctx, name, -n, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	b, err = io.ReadAll(io.LimitReader(rc, n+1))
	if err == nil && int64(len(b)) > n {
		err = fmt.Errorf("%w: %s gave more than the %d bytes that were asked for", untrusted.ErrDamaged, name, n)
	}
	return b, err
}

// footer reads the end of an object of a known size until decode has enough of it. It
// returns false where the object is gone.
func (r requests) footer(ctx context.Context, name string, size int64, decode func(end []byte) (need int64, err error)) (bool, error) {
	for n := min(size, format.Suffix); ; {
		b, err := r.end(ctx, name, n)
		if err != nil || b == nil {
			return false, err
		}
		need, err := decode(b)
		if err != nil || need <= int64(len(b)) {
			return err == nil, err
		}
		if n == need {
			return false, fmt.Errorf("%w: %s is shorter than it was listed", untrusted.ErrDamaged, name)
		}
		n = need
	}
}

// entry reads what stands under a number of a log; nil: nothing. A size of 0 is looked up.
func (r requests) entry(ctx context.Context, epoch, seq uint64, size int64) (*format.Entry, error) {
	name, listed := format.ObjectName(epoch, seq), size != 0
	if !listed {
		for o, err := range r.store.List(ctx, name, "") {
			if err != nil {
				return nil, err
			}
			if o.Name != name {
				continue
			} else if size = o.Size; size == 0 { // which a reader would take for gone, and list again
				return nil, fmt.Errorf("%w: %s is empty", untrusted.ErrDamaged, name)
			}
		}
		if size == 0 {
			return nil, nil
		}
	}
	var e format.Entry
	there, err := r.footer(ctx, name, size, func(end []byte) (need int64, err error) {
		e, need, err = format.Decode(end, size, epoch, seq)
		return need, err
	})
	if listed && errors.Is(err, untrusted.ErrDamaged) { // a void seal may have taken the place of what was trimmed
		return r.entry(ctx, epoch, seq, 0)
	}
	if !there || err != nil {
		return nil, err
	}
	if r.prefix != "" && e.Log != nil {
		rec, ok := e.Log.Find(r.prefix)
		if e.Log.Records = nil; ok { // the others' would take memory
			rec.Prefix = r.prefix
			e.Log.Records = []format.Record{rec}
		}
		e.Log.Forgets = slices.DeleteFunc(e.Log.Forgets, func(g format.Forget) bool { return g.Prefix != r.prefix })
	}
	return &e, nil
}

// log lists the objects of one log.
func (r requests) log(ctx context.Context, epoch uint64) (listed []fleetlog.Listed, err error) {
	for o, err := range r.store.List(ctx, format.LogDir(epoch), "") {
		if err != nil {
			return nil, err
		}
		of, seq, ok := format.ParseObjectName(o.Name)
		if !ok || of != epoch {
			return nil, fmt.Errorf("%w: %s is nothing of a fleet log", untrusted.ErrDamaged, o.Name)
		}
		if listed = append(listed, fleetlog.Listed{Seq: seq, Size: o.Size}); len(listed) > fleetlog.MaxListed {
			break // the Tail refuses it
		}
	}
	return listed, nil
}

// change carries a change of the map through. Errors of the store end it: it may be begun
// again.
func (r requests) change(ctx context.Context, c *fleetlog.Change) (*format.Map, error) {
	for {
		if done, err := c.Done(); done {
			return c.Map(), err
		}
		switch ask := c.Ask(); ask.Op {
		case fleetlog.List:
			newest, err := r.newestMap(ctx, ask.After)
			if err != nil {
				return nil, err
			}
			c.Listed(newest)
		case fleetlog.Read:
			m, err := r.readMap(ctx, ask.Name)
			if err != nil {
				return nil, err
			}
			c.Read(m)
		case fleetlog.Create:
			outcome, err := r.create(ctx, ask)
			c.Answered(outcome)
			if err != nil {
				return nil, err
			}
		}
	}
}

// newestMap is the greatest number of a map after a name; 0 if there is none.
func (r requests) newestMap(ctx context.Context, after string) (newest uint64, err error) {
	for o, err := range r.store.List(ctx, format.MapDir, after) {
		if err != nil {
			return 0, err
		}
		number, ok := format.ParseMapName(o.Name)
		if !ok {
			return 0, fmt.Errorf("%w: %s is no map of a fleet log", untrusted.ErrDamaged, o.Name)
		}
		newest = max(newest, number)
	}
	return newest, nil
}

// A map that is just being created may be refused to whoever creates it too, and be listed with its size only a
// moment later. So its size is asked for again, a few times and after a pause that doubles.
const (
	mapTries = 6
	mapPause = 50 * time.Millisecond
)

// sizeOfMap is 0 if there is none.
func (r requests) sizeOfMap(ctx context.Context, name string) (size int64, err error) {
	for try := 0; ; try++ {
		for o, err := range r.store.List(ctx, name, "") {
			if err != nil {
				return 0, err
			}
			if o.Name == name {
				size = o.Size
			}
		}
		if size > 0 || try == mapTries {
			return size, nil
		}
		if err := ctxio.Sleep(ctx, mapPause<<try); err != nil {
			return 0, err
		}
	}
}

// readMap reads a map; nil if there is none.
func (r requests) readMap(ctx context.Context, name string) (*format.Map, error) {
	number, _ := format.ParseMapName(name)
	size, err := r.sizeOfMap(ctx, name)
	if err != nil || size == 0 {
		return nil, err
	}
	var m *format.Map
	there, err := r.footer(ctx, name, size, func(end []byte) (need int64, err error) {
		m, need, err = format.DecodeMap(end, size, number)
		return need, err
	})
	if !there || err != nil {
		return nil, err
	}
	return m, nil
}

// leftovers are the names of what is left of a finished log, but for its seal, and of large
// files that came after other logs were finished.
func (r requests) leftovers(ctx context.Context, m *format.Map, epoch, seal uint64) (names []string, err error) {
	for o, err := range r.store.List(ctx, format.LogDir(epoch), "") {
		if err != nil {
			return nil, err
		}
		if of, seq, ok := format.ParseObjectName(o.Name); ok && of == epoch && seq != seal {
			names = append(names, o.Name)
		}
	}
	for o, err := range r.store.List(ctx, format.LargeDir, "") {
		if err != nil {
			return nil, err
		}
		if of, _, ok := format.ParseLargeName(o.Name); ok && m.Finished(of) {
			names = append(names, o.Name)
		}
	}
	return names, nil
}

// Reading says what Read reads.
type Reading struct {
	Prefix string // the records of this one alone; "": all
	// History is all that is still there, also what the prefixes have.
	History bool
}

// Read returns what the logs of a store have that no prefix may have, as it is now: the
// objects that count, of all live epochs in their order. Whoever reads prefixes too reads
// them after this (M2). It changes nothing, and may run beside the owners.
func Read(ctx context.Context, objects store.Objects, what Reading) (logs []*format.Log, err error) {
	r := requests{store: objects, prefix: what.Prefix}
	look := fleetlog.NewChange(format.ID{}, 0, nil, func(*format.Map) error { return errLooked })
	if _, err := r.change(ctx, look); !errors.Is(err, errLooked) {
		return nil, err
	}
	for _, live := range look.Map().Live {
		one, err := r.objects(ctx, live.Epoch, what.History)
		if err != nil {
			return nil, err
		}
		logs = append(logs, one...)
	}
	if len(look.Map().Live) > 1 {
		// What makes records of one log void may be in another, which may be gone by now. It
		// was finished after the one that it speaks of (F9), all of which the prefixes have.
		again := fleetlog.NewChange(format.ID{}, 0, look.Map(), func(*format.Map) error { return errLooked })
		if _, err := r.change(ctx, again); !errors.Is(err, errLooked) {
			return nil, err
		}
		logs = slices.DeleteFunc(logs, func(l *format.Log) bool { return again.Map().Find(l.Epoch) < 0 })
	}
	return fleetlog.Remembered(logs), nil
}

// objects are those of a log that count, as it is now.
func (r requests) objects(ctx context.Context, epoch uint64, history bool) ([]*format.Log, error) {
	tail := fleetlog.NewTail(epoch)
	tail.History = history
	for asks := tail.Asks(); len(asks) > 0; asks = tail.Asks() {
		if err := r.read(ctx, tail, asks); err != nil {
			return nil, fmt.Errorf("read the log of epoch %d: %w", epoch, err)
		}
	}
	return tail.Objects(), nil
}

// parallel is how many objects are read at once.
const parallel = 32

// read makes the requests that a Tail asks for, several at once.
func (r requests) read(ctx context.Context, t *fleetlog.Tail, asks []fleetlog.Ask) error {
	if asks[0].Op == fleetlog.List {
		listed, err := r.log(ctx, epochOf(asks[0].Name))
		if err != nil {
			return err
		}
		return t.Listing(listed)
	}
	type found struct {
		seq uint64
		e   *format.Entry
	}
	entries := make([]found, len(asks))
	errs := make([]error, len(asks))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, ask := range asks {
		epoch, seq, _ := format.ParseObjectName(ask.Name)
		size := t.Size(seq)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			entries[i].seq = seq
			entries[i].e, errs[i] = r.entry(ctx, epoch, seq, size)
		})
	}
	wg.Wait()
	for i, f := range entries { // what was read stays read, whatever became of the others
		if errs[i] == nil {
			t.Read(f.seq, f.e)
		}
	}
	return errors.Join(errs...)
}

// epochOf is the epoch whose log a directory is.
func epochOf(dir string) uint64 {
	epoch, _, _ := format.ParseObjectName(dir + strings.TrimPrefix(format.ObjectName(1, 1), format.LogDir(1)))
	return epoch
}
