package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/member/bucket"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
)

// world is what goes wrong in a simulation, by one source of chance.
type world struct {
	mu   sync.Mutex
	rnd  *rand.Rand
	calm bool // nothing goes wrong any more

	began time.Time
	late  sync.WaitGroup
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && w.rnd.Float64() < p
}

func (w *world) upTo(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rnd.Int64N(int64(d)))
}

// boot is the clock of all processes. Each takes the lock before it changes what it knows of itself, so that a
// look at that from outside, which ends with the lock, comes before it.
func (w *world) boot() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.began)
}

// wire is the way of one process to the bucket. It delays, loses, and carries out later; the process sleeps
// with it, as one does that was stopped.
type wire struct {
	store.Objects
	w *world

	mu    sync.Mutex
	awake time.Time // until then it sleeps
	cut   time.Time // until then nothing passes
}

func (o *wire) sleep(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.awake = time.Now().Add(d)
}

func (o *wire) cutOff(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut = time.Now().Add(d)
}

// stopped waits while the process sleeps, whatever its contexts say.
func (o *wire) stopped() {
	for {
		o.mu.Lock()
		d := time.Until(o.awake)
		o.mu.Unlock()
		if d <= 0 {
			o.w.boot()
			return
		}
		<-time.After(d)
	}
}

func (o *wire) isCut() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.cut)
}

func (o *wire) do(ctx context.Context, op func(context.Context) error) error {
	o.stopped()
	defer o.stopped()
	delay := o.w.upTo(300 * time.Millisecond)
	if o.w.chance(0.05) {
		delay = o.w.upTo(4 * time.Second)
	}
	if err := ctxio.Sleep(ctx, delay); err != nil {
		return err
	}
	o.stopped()
	if o.isCut() || o.w.chance(0.03) {
		return errCut
	}
	if err := op(ctx); err != nil {
		return err
	}
	if o.w.chance(0.03) {
		return errCut // and it was done
	}
	return ctxio.Sleep(ctx, o.w.upTo(200*time.Millisecond))
}

func (o *wire) Create(ctx context.Context, name string, data []byte) error {
	return o.do(ctx, func(ctx context.Context) error {
		if o.w.chance(0.05) {
			d := o.w.upTo(40 * time.Second)
			o.w.late.Go(func() {
				<-time.After(d)
				_ = o.Objects.Create(context.WithoutCancel(ctx), name, data)
			})
			<-ctx.Done()
			return ctx.Err()
		}
		return o.Objects.Create(ctx, name, data)
	})
}

func (o *wire) Delete(ctx context.Context, names ...string) error {
	return o.do(ctx, func(ctx context.Context) error { return o.Objects.Delete(ctx, names...) })
}

func (o *wire) Open(ctx context.Context, name string, offset, size int64) (rc io.ReadCloser, err error) {
	err = o.do(ctx, func(ctx context.Context) error {
		rc, err = o.Objects.Open(ctx, name, offset, size)
		return err
	})
	if err != nil && rc != nil {
		_ = rc.Close()
	}
	return rc, err
}

func (o *wire) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		var infos []store.ObjectInfo
		err := o.do(ctx, func(ctx context.Context) error {
			for info, err := range o.Objects.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				infos = append(infos, info)
			}
			return nil
		})
		if err != nil {
			yield(store.ObjectInfo{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// process is one that joins by the name that all want, again and again.
type process struct {
	mu       sync.Mutex
	wire     *wire
	session  member.Session // nil: it is joining, or has none
	sessions []member.Session
	ended    map[member.Session]bool // those that are known to have ended
	joined   int
	taken    int
}

func (p *process) run(t *testing.T, w *world, dir store.Objects, stop <-chan struct{}) {
	for life := ""; ; {
		wire := &wire{Objects: dir, w: w}
		former := life
		life = fmt.Sprintf("%016x", int64(w.upTo(1<<62)))
		if !w.chance(0.5) {
			former = "" // it does not know that it has ended
		}
		p.mu.Lock()
		if former != "" {
			p.ended[p.session] = true
		}
		p.wire, p.session = wire, nil
		p.mu.Unlock()
		m, err := bucket.New(bucket.Config{Objects: wire, Boot: w.boot})
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		s, err := m.Join(ctx, member.Member{Name: "a", Life: life}, former)
		cancel()
		p.mu.Lock()
		if p.session = s; err == nil {
			p.sessions = append(p.sessions, s)
			p.joined++
		} else if errors.Is(err, member.ErrNameTaken) {
			p.taken++
			life = ""
		}
		p.mu.Unlock()
		select {
		case <-time.After(w.upTo(2 * time.Minute)):
		case <-stop:
			return
		}
		if err != nil {
			continue
		}
		if w.chance(0.5) {
			wire.cutOff(time.Hour) // it dies: what is under way may still be done
			if w.chance(0.5) {
				life = "" // another machine takes the name
			}
			continue
		}
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		if s.Leave(ctx) != nil {
			life = ""
		}
		cancel()
	}
}

// TestOfManyThatWantOneNameAtMostOneEverHasIt: with requests that are slow, lost or carried out later, processes that sleep,
// die and are cut off. At each moment at most one counts itself as the node, and once nothing goes wrong exactly one
// of those that have joined does, which everybody sees.
func TestOfManyThatWantOneNameAtMostOneEverHasIt(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 30
	}
	joined, taken, held := 0, 0, 0
	first := rand.Uint64()
	for seed := first; seed < first+uint64(seeds); seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := &world{rnd: rand.New(rand.NewPCG(seed, 0)), began: time.Now()}
			dir := dirOf(t, multidbtest.NewReplica())
			observer := join(t, dir, "observer", "0", "", bucket.Config{})
			stop := make(chan struct{})
			var wg sync.WaitGroup
			all := make([]*process, 3)
			for i := range all {
				all[i] = &process{ended: make(map[member.Session]bool)}
				wg.Go(func() { all[i].run(t, w, dir, stop) })
			}
			sure := func() (n int, who string) {
				synctest.Wait()
				for _, p := range all {
					p.mu.Lock()
					defer p.mu.Unlock()
					for _, s := range p.sessions {
						if !p.ended[s] && bucket.Sure(s) {
							n++
							who += " " + fmt.Sprint(s.Members())
						}
					}
				}
				w.boot()
				return n, who
			}
			for range 8 * 60 * 4 {
				<-time.After(250 * time.Millisecond)
				n, who := sure()
				if held += n; n > 1 && !t.Failed() {
					t.Errorf("seed %d: %d count themselves as the node:%s", seed, n, who)
				}
				p := all[w.upTo(time.Duration(len(all)))]
				p.mu.Lock()
				switch {
				case w.chance(0.01):
					p.wire.sleep(w.upTo(40 * time.Second))
				case w.chance(0.01) && p.session != nil && !p.wire.isCut():
					p.wire.cutOff(w.upTo(40 * time.Second))
				}
				p.mu.Unlock()
			}
			w.mu.Lock()
			w.calm = true
			w.mu.Unlock()
			close(stop)
			wg.Wait()
			w.late.Wait()
			<-time.After(2 * time.Minute)
			n, who := sure()
			alive := 0
			for _, p := range all {
				if p.session != nil && !p.wire.isCut() && p.session.Err() != nil && !errors.Is(p.session.Err(), member.ErrNameTaken) {
					continue // it has left
				}
				if p.session != nil && !p.wire.isCut() {
					alive++
				}
				joined, taken = joined+p.joined, taken+p.taken
			}
			if n != min(alive, 1) {
				t.Errorf("seed %d: in the end %d of %d count themselves as the node:%s", seed, n, alive, who)
			}
			if got := len(observer.session.Members()); got != 1+n || observer.session.Err() != nil {
				t.Errorf("seed %d: the observer sees %v, its error is %v; %d is there", seed, observer.session.Members(), observer.session.Err(), n)
			}
			for _, p := range all {
				for _, s := range p.sessions {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					_ = s.Leave(ctx) // of those that are cut off it cannot succeed
					cancel()
				}
			}
			leave(t, observer)
		})
		if t.Failed() {
			break
		}
	}
	if joined < seeds || taken < seeds || held < seeds {
		t.Errorf("%d have joined, %d found the name taken, and %d were seen as the node: the simulation is too weak", joined, taken, held)
	}
	t.Logf("%d joined, %d found the name taken", joined, taken)
}
