package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errLost = errors.New("no answer")

// bucket is a store.Objects in memory that counts, delays and loses answers. A request that lost
// its answer may be carried out all the same, also much later.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	rand    *rand.Rand
	lose    float64       // of all requests
	delay   time.Duration // of each at most
	creates int
	opens   int
	late    sync.WaitGroup
}

func newBucket(seed uint64) *bucket {
	return &bucket{objects: map[string][]byte{}, rand: rand.New(rand.NewPCG(seed, 1))}
}

// fate is what becomes of a request: how long it takes there and back, and whether it is
// carried out and answered.
func (b *bucket) fate() (there, back time.Duration, arrives, answered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := func() time.Duration { return time.Duration(b.rand.Float64() * float64(b.delay)) }
	answered = b.rand.Float64() >= b.lose
	return d(), d(), answered || b.rand.IntN(2) == 0, answered
}

// do makes a request; one that changes something may be carried out without an answer.
func (b *bucket) do(ctx context.Context, changes bool, op func() error) error {
	there, back, arrives, answered := b.fate()
	if !answered {
		if arrives && changes {
			b.late.Go(func() {
				time.Sleep(there + 20*b.delay)
				_ = op() // nobody hears of it
			})
		}
		if err := ctxio.Sleep(ctx, there); err != nil {
			return err
		}
		return errLost
	}
	if err := ctxio.Sleep(ctx, there); err != nil {
		return err
	}
	err := op()
	if e := ctxio.Sleep(ctx, back); e != nil {
		return e
	}
	return err
}

func (b *bucket) Create(ctx context.Context, name string, data []byte) error {
	b.mu.Lock()
	b.creates++
	b.mu.Unlock()
	return b.do(ctx, true, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.objects[name]; ok {
			return fmt.Errorf("%s: %w", name, fs.ErrExist)
		}
		b.objects[name] = bytes.Clone(data)
		return nil
	})
}

func (b *bucket) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	data, err := io.ReadAll(store.Exactly(r, size))
	if err != nil {
		return err
	}
	return b.Create(ctx, name, data)
}

func (b *bucket) Open(ctx context.Context, name string, offset, size int64) (rc io.ReadCloser, err error) {
	b.mu.Lock()
	b.opens++
	b.mu.Unlock()
	err = b.do(ctx, false, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		data, ok := b.objects[name]
		if !ok {
			return fs.ErrNotExist
		}
		if offset < 0 {
			offset = max(0, int64(len(data))+offset)
		}
		data = data[min(offset, int64(len(data))):]
		if size > 0 {
			data = data[:min(size, int64(len(data)))]
		}
		rc = io.NopCloser(bytes.NewReader(data))
		return nil
	})
	return rc, err
}

func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		var all []store.ObjectInfo
		if err := b.do(ctx, false, func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, name := range slices.Sorted(maps.Keys(b.objects)) {
				if strings.HasPrefix(name, prefix) && name > after {
					all = append(all, store.ObjectInfo{Name: name, Size: int64(len(b.objects[name]))})
				}
			}
			return nil
		}); err != nil {
			yield(store.ObjectInfo{}, err)
			return
		}
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (b *bucket) Delete(ctx context.Context, names ...string) error {
	return b.do(ctx, true, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, name := range names {
			delete(b.objects, name)
		}
		return nil
	})
}

// counted is how many objects were created, the map's included.
func (b *bucket) counted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.creates
}

// life is a process life with its Journal.
func life(b *bucket, n byte, change func(*Config)) *Journal {
	cfg := Config{Store: b, Life: format.ID{n}, Node: fmt.Sprintf("node %d", n)}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

func file(tenant string, txid uint64, size int) format.File {
	f := format.File{Data: bytes.Repeat([]byte{byte(txid)}, size)}
	f.Prefix, f.Min, f.Max = tenant, txid, txid
	return f
}

// read is what a reader finds in the logs that are live: the transactions of each tenant.
func read(t *testing.T, b *bucket) map[string][]uint64 {
	t.Helper()
	quiet := &bucket{objects: b.objects, rand: b.rand}
	r := requests{store: quiet}
	look := fleetlog.NewChange(format.ID{}, 0, nil, func(*format.Map) error { return errLooked })
	if _, err := r.change(t.Context(), look); !errors.Is(err, errLooked) {
		t.Fatal(err)
	}
	found := map[string][]uint64{}
	for _, live := range look.Map().Live {
		tail := fleetlog.NewTail(live.Epoch)
		tail.History = true
		for asks := tail.Asks(); len(asks) > 0; asks = tail.Asks() {
			if err := r.read(t.Context(), tail, asks); err != nil {
				t.Fatal(err)
			}
		}
		for _, log := range tail.Objects() {
			for _, rec := range log.Records {
				found[rec.Prefix] = append(found[rec.Prefix], rec.Min)
			}
		}
	}
	return found
}

func TestFiveHundredThatHurryShareFewObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		b.delay = 30 * time.Millisecond
		j := life(b, 1, nil)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 500 {
			wg.Add(1)
			if err := j.Append(t.Context(), file(fmt.Sprint("t", i), 1, 1000), func(_ Place, err error) {
				if err != nil {
					t.Error(err)
				}
				wg.Done()
			}); err != nil {
				t.Fatal(err)
			}
			j.Hurry()
		}
		wg.Wait()
		// The seal-less join is one map; the rest are objects.
		if n, took := b.counted()-1, time.Since(began); n > 4 || took > 600*time.Millisecond {
			t.Errorf("%d objects in %v", n, took)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if found := read(t, b); len(found) != 500 {
			t.Errorf("%d tenants are in the log", len(found))
		}
	})
}

func TestOneObjectAnIntervalHoldsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		j := life(b, 1, nil)
		for second := range 10 {
			for i := range 100 {
				if err := j.Append(t.Context(), file(fmt.Sprint("t", i), uint64(second+1), 100), func(_ Place, err error) {
					if err != nil {
						t.Error(err)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		s := j.Stats()
		if s.Files != 1000 || s.Objects > 12 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheFilesOfATenantAreDurableInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(3)
		b.lose, b.delay = 0.2, 300*time.Millisecond
		j := life(b, 1, func(c *Config) { c.MaxObject = 250 })
		var mu sync.Mutex
		got := map[string][]uint64{}
		for txid := range uint64(20) {
			for _, tenant := range []string{"a", "b", "c"} {
				if err := j.Append(t.Context(), file(tenant, txid+1, 100-80*int(txid%2)), func(_ Place, err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Error(err)
					}
					got[tenant] = append(got[tenant], txid+1)
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.late.Wait()
		for tenant, txids := range got {
			if len(txids) != 20 || !slices.IsSorted(txids) {
				t.Errorf("%s: acknowledged in the order %v", tenant, txids)
			}
		}
		for tenant, txids := range read(t, b) {
			if len(txids) != 20 || !slices.IsSorted(txids) {
				t.Errorf("%s: the log has %v", tenant, txids)
			}
		}
	})
}

// TestASealInThePlaceOfATrimmedObjectEndsNothing: it was under way for so long that the
// object was trimmed and deleted meanwhile, after a reader had listed it.
func TestASealInThePlaceOfATrimmedObjectEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		put := func(seq, trim uint64, files ...format.File) {
			data, err := (&format.Log{Author: format.ID{1}, Epoch: 1, Seq: seq, Packed: trim, Trim: trim}).Encode(files)
			if err != nil {
				t.Fatal(err)
			}
			b.objects[format.ObjectName(1, seq)] = data
		}
		put(1, 1, file("a", 1, 1000))
		put(2, 1, file("a", 2, 1000))
		tail, r := fleetlog.NewTail(1), requests{store: b}
		if err := r.read(t.Context(), tail, tail.Asks()); err != nil { // the listing
			t.Fatal(err)
		}
		put(3, 2, file("a", 3, 1000))
		seal, err := (&format.Seal{Author: format.ID{2}, Epoch: 1, Seq: 1, Trim: 1, Next: 2, Who: "late"}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		b.objects[format.ObjectName(1, 1)] = seal
		for asks := tail.Asks(); len(asks) > 0; asks = tail.Asks() {
			if err := r.read(t.Context(), tail, asks); err != nil {
				t.Fatal(err)
			}
		}
		if tail.Begin() != 2 || tail.End() != 4 || tail.Seal() != nil {
			t.Errorf("the log has the objects from %d to before %d, and %v", tail.Begin(), tail.End(), tail.Seal())
		}
	})
}

// TestObjectsGoThatAreUnpackedAndOld and a reader begins behind them.
func TestObjectsGoThatAreUnpackedAndOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		j := life(b, 1, func(c *Config) { c.Retention = time.Minute })
		var mu sync.Mutex
		var places []Place
		for txid := range uint64(500) {
			if err := j.Append(t.Context(), file("a", txid+1, 10), func(at Place, err error) {
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				places = append(places, at)
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
			for len(places) > 0 && txid < 400 {
				j.Unpacked(places[0].Epoch, places[0].Seq)
				places = places[1:]
			}
			mu.Unlock()
		}
		found := read(t, b)["a"]
		b.mu.Lock()
		objects := len(b.objects)
		b.mu.Unlock()
		if len(found) > 170 || found[0] < 300 || found[0] > 401 || found[len(found)-1] != 500 || objects > 300 {
			t.Errorf("%d objects; a reader finds %d transactions, from %d to %d", objects, len(found), found[0], found[len(found)-1])
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsNotTakenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		b.lose = 1
		j := life(b, 1, func(c *Config) { c.MaxQueued = 1000 })
		ends := make(chan error, 10)
		if err := j.Append(t.Context(), file("a", 1, 900), func(_ Place, err error) { ends <- err }); err != nil {
			t.Fatal(err)
		}
		if err := j.Append(t.Context(), file("b", 1, 200), nil); !errors.Is(err, ErrFull) || !errors.Is(err, errLost) {
			t.Errorf("beyond the bound: %v", err)
		}
		began := time.Now()
		if err := j.Close(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("closed over a store that fails: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-ends; !errors.Is(err, errLost) {
			t.Errorf("what was never taken: %v", err)
		}
		if err := j.Append(t.Context(), file("c", 1, 1), nil); err == nil {
			t.Error("taken after Close")
		}
		b.late.Wait()
	})
}

func TestWhoFindsNoRoomWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		b.delay = 100 * time.Millisecond
		j := life(b, 1, func(c *Config) { c.MaxQueued = 1000 })
		var acked atomic.Int32
		for i := range 10 {
			if err := j.Append(t.Context(), file(fmt.Sprint("t", i), 1, 900), func(_ Place, err error) {
				if err == nil {
					acked.Add(1)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		if err := j.Close(t.Context()); err != nil || acked.Load() != 10 {
			t.Errorf("%d of 10 are durable: %v", acked.Load(), err)
		}
		b.late.Wait()
	})
}

// TestAHurryEndsThePauseAfterAFailure: who calls Sync when the store is back does not wait
// for the end of a pause that grew while it was away.
func TestAHurryEndsThePauseAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		b.lose = 1
		var failed atomic.Int32
		j := life(b, 1, func(c *Config) { c.MaxPause = time.Hour; c.Failed = func(error) { failed.Add(1) } })
		done := make(chan error, 1)
		if err := j.Append(t.Context(), file("a", 1, 1), func(_ Place, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if failed.Load() < 5 {
			t.Errorf("%d failures were told", failed.Load())
		}
		b.mu.Lock()
		b.lose = 0
		b.mu.Unlock()
		began := time.Now()
		j.Hurry()
		if err := <-done; err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.late.Wait()
	})
}

// commit is one file of one tenant.
type commit struct {
	tenant string
	txid   uint64
}

// TestNothingThatWasAcknowledgedIsMissing: lives begin, write over a store that loses and
// delays, and go on writing while the next one takes over. Whatever was acknowledged is
// found by a reader, and by who took over.
func TestNothingThatWasAcknowledgedIsMissing(t *testing.T) {
	took, ended, all := 0, 0, 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			b := newBucket(seed)
			b.lose, b.delay = b.rand.Float64()*0.2, 200*time.Millisecond
			rnd := rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			acked := map[*Journal][]commit{}
			fenced := map[*Journal]bool{}
			var lives []*Journal
			txid := uint64(0)
			write := func(j *Journal) {
				txid++
				c := commit{fmt.Sprint("t", rnd.IntN(5)), txid}
				_ = j.Append(t.Context(), file(c.tenant, c.txid, 10), func(_ Place, err error) { // one is refused where the log has ended
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						acked[j] = append(acked[j], c)
					} else if errors.Is(err, fleetlog.ErrFenced) {
						fenced[j] = true
					}
				})
			}
			for n := range byte(4) {
				lives = append(lives, life(b, n+1, nil))
				write(lives[n])
				for range 120 {
					write(lives[rnd.IntN(len(lives))])
					time.Sleep(time.Duration(rnd.Float64() * float64(time.Second)))
				}
			}
			b.mu.Lock()
			b.lose = 0
			b.mu.Unlock()
			for _, j := range lives {
				ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
				if err := j.Close(ctx); err != nil && !errors.Is(err, fleetlog.ErrFenced) {
					t.Errorf("seed %d: %v", seed, err)
				}
				stop()
			}
			b.late.Wait()
			found := read(t, b)
			epochs := map[uint64]*Journal{}
			for _, j := range lives {
				epochs[j.Stats().Epoch] = j
				all += len(acked[j])
				for _, c := range acked[j] {
					if !slices.Contains(found[c.tenant], c.txid) {
						t.Errorf("seed %d: %v was acknowledged, the logs have %v", seed, c, found[c.tenant])
					}
				}
			}
			for _, j := range lives {
				for _, tail := range j.tails {
					has := map[commit]bool{}
					for _, log := range tail.Objects() {
						for _, rec := range log.Records {
							has[commit{rec.Prefix, rec.Min}] = true
						}
					}
					former := epochs[tailEpoch(tail)]
					for _, c := range acked[former] {
						if !has[c] {
							t.Errorf("seed %d: %v was acknowledged in epoch %d, which epoch %d has not read", seed, c, former.Stats().Epoch, j.Stats().Epoch)
						}
					}
					took++
				}
			}
			ended += len(fenced)
		})
	}
	if took < 60 || ended < 60 || all < 1000 {
		t.Errorf("%d logs were taken over, %d lives fenced, %d files acknowledged: the test does not do what it should", took, ended, all)
	}
}

// tailEpoch is the epoch that a tail reads; 0 if it is empty.
func tailEpoch(tail *fleetlog.Tail) uint64 {
	for _, log := range tail.Objects() {
		return log.Epoch
	}
	return 0
}

// TestWhoIsFencedIsToldOnceBetweenTheLastSuccessAndTheFirstFailure.
func TestWhoIsFencedIsToldOnceBetweenTheLastSuccessAndTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		var told int // by the goroutine of the first life; read when it has ended
		var late, early int
		first := life(b, 1, func(c *Config) {
			c.Fenced = func(err error) {
				if told++; !errors.Is(err, fleetlog.ErrFenced) {
					t.Errorf("told of %v", err)
				}
			}
		})
		done := func(_ Place, err error) {
			if err == nil && told > 0 {
				late++
			} else if err != nil && told == 0 {
				early++
			}
		}
		for txid := range uint64(3) {
			if err := first.Append(t.Context(), file("a", txid+1, 10), done); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		second := life(b, 2, nil)
		if _, err := second.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		for txid := range uint64(3) {
			if err := first.Append(t.Context(), file("a", txid+4, 10), done); err != nil {
				t.Fatal(err)
			}
		}
		if err := first.Close(t.Context()); !errors.Is(err, fleetlog.ErrFenced) {
			t.Errorf("closed: %v", err)
		}
		if told != 1 || late > 0 || early > 0 || !first.Stats().Fenced {
			t.Errorf("told %d times; %d successes after it, %d failures before it; %+v", told, late, early, first.Stats())
		}
		if err := second.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestABacklogOfOneTenantDoesNotWaitForAnIntervalEach: an object has one file of a tenant.
func TestABacklogOfOneTenantDoesNotWaitForAnIntervalEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		j := life(b, 1, func(c *Config) { c.Interval = time.Minute })
		const files = 20
		acked := make(chan error, files)
		began := time.Now()
		for txid := range uint64(files) {
			if err := j.Append(t.Context(), file("a", txid+1, 10), func(_ Place, err error) { acked <- err }); err != nil {
				t.Fatal(err)
			}
		}
		for range files {
			if err := <-acked; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("%d files took %v", files, took)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.late.Wait()
	})
}
