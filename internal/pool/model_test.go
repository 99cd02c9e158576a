package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// model checks what the pool does to values, from inside Open and Close.
type model struct {
	t      *testing.T
	seed   uint64
	max    int
	mu     sync.Mutex
	rng    *rand.Rand // guarded by mu
	exist  map[int]*thing
	places int // values existing, being opened or being closed
	opens  int
	closes int
}

type thing struct {
	leases int // as counted by those who hold them
	closed bool
}

func (m *model) failf(format string, args ...any) {
	m.t.Errorf("seed %d: %s", m.seed, fmt.Sprintf(format, args...))
}

// pause lets time pass, now and then; others run meanwhile.
func (m *model) pause(limit int) {
	m.mu.Lock()
	d := time.Duration(m.rng.IntN(limit))
	m.mu.Unlock()
	time.Sleep(d) // the bubble's time
}

func (m *model) intn(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

func (m *model) open(ctx context.Context, k int) (*thing, error) {
	v := &thing{}
	m.mu.Lock()
	m.places++
	if m.places > m.max {
		m.failf("%d places in use, Max is %d", m.places, m.max)
	}
	if m.exist[k] != nil {
		m.failf("a second value of key %d", k)
	}
	m.exist[k] = v
	m.mu.Unlock()
	m.pause(4)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil || m.rng.IntN(8) == 0 {
		delete(m.exist, k)
		m.places--
		return nil, errOpen
	}
	m.opens++
	return v, nil
}

func (m *model) close(k int, v *thing) error {
	m.mu.Lock()
	if v.leases > 0 {
		m.failf("key %d closed with %d leases", k, v.leases)
	}
	if v.closed || m.exist[k] != v {
		m.failf("key %d closed twice", k)
	}
	v.closed = true
	m.mu.Unlock()
	m.pause(4)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.exist, k)
	m.places--
	m.closes++
	return nil
}

// lease holds k for a while, or gives up. Who holds a lease already waits for a
// second one with a deadline only: the first may be stale, and be waited for.
func (m *model) lease(p *Pool[int, *thing], k int, nested bool) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if nested || m.intn(3) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.intn(10)))
	}
	defer cancel()
	l, err := p.Acquire(ctx, k)
	if err != nil {
		if !errors.Is(err, errOpen) && !errors.Is(err, ErrClosed) && ctx.Err() == nil {
			m.failf("Acquire: %v", err)
		}
		return
	}
	v := l.Value()
	m.mu.Lock()
	if v.closed {
		m.failf("key %d leased after its close", k)
	}
	v.leases++
	m.mu.Unlock()
	m.pause(6)
	m.audit(p)
	if m.intn(2) == 0 {
		m.lease(p, k, true) // a second lease of the same key, perhaps of another value
	}
	m.mu.Lock()
	v.leases--
	m.mu.Unlock()
	l.Release()
	if m.intn(2) == 0 {
		l.Release()
	}
}

// audit counts the entries and compares with what the pool keeps count of.
func (m *model) audit(p *Pool[int, *thing]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var used, opening, closing, claimed, idle, leases, waiting, queued int
	for _, e := range p.entries {
		for ; e != nil; e = e.prev {
			waiting += len(e.waiters)
			leases += e.refs
			switch e.state {
			case stateQueued:
				if (e.elem == nil) != (e.prev != nil) || len(e.waiters) == 0 {
					m.failf("key %d waits for nothing or for nobody", e.key)
				}
				if e.elem != nil {
					queued++
				}
				continue
			case stateOpening:
				opening++
			case stateOpen:
				if e.refs == 0 {
					idle++
				}
			case stateClosing:
				closing++
				if e.next != nil {
					claimed++
				}
			}
			used++
		}
	}
	got := []int{used, opening, closing, claimed, idle, leases, waiting, queued}
	kept := []int{p.used, p.opening, p.closing, p.claimed, p.idle, p.leases, p.waiting, p.queue.Len()}
	if !slices.Equal(got, kept) {
		m.failf("used, opening, closing, claimed, idle, leases, waiting, queued are %v, the pool counts %v", got, kept)
	}
	if queued > 0 && idle > 0 && closing-claimed < queued {
		m.failf("%d keys wait for a place while %d values are idle", queued, idle)
	}
}

func (m *model) run() {
	m.max = 1 + m.intn(4)
	var idle time.Duration
	if m.intn(2) == 0 {
		idle = time.Duration(1 + m.intn(10))
	}
	p := New(Config[int, *thing]{Max: m.max, IdleTimeout: idle, Open: m.open, Close: m.close})
	keys, abrupt := 1+m.intn(6), m.intn(3) == 0
	var wg sync.WaitGroup
	for range 1 + m.intn(6) {
		wg.Go(func() {
			for range 12 {
				k := m.intn(keys)
				switch m.intn(10) {
				case 0:
					p.Evict(k)
				case 1:
					p.CloseIdle(k)
				case 2:
					m.pause(20)
				default:
					m.lease(p, k, false)
				}
				m.audit(p)
			}
		})
	}
	if abrupt {
		m.pause(100)
	} else {
		wg.Wait() // a forgotten waiter is a deadlock, which synctest reports
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(m.intn(5)))
	first := p.Close(ctx)
	cancel()
	if first != nil && !errors.Is(first, context.DeadlineExceeded) {
		m.failf("Close: %v", first)
	}
	if err := p.Close(context.Background()); err != nil {
		m.failf("Close: %v", err)
	}
	wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := p.Stats()
	if m.opens != m.closes || int64(m.opens) != s.Opens || int64(m.closes) != s.Closes || m.places != 0 {
		m.failf("%d opened, %d closed, %d places in use; stats %+v", m.opens, m.closes, m.places, s)
	}
	if s.Open+s.Opening+s.Closing+s.Leases+s.Waiting != 0 || p.claimed != 0 || p.queue.Len() != 0 || len(p.entries) != 0 {
		m.failf("something is left: %+v", s)
	}
}

// TestRandomUseNeverBreaksAnInvariant runs random callers against the model.
// MULTIDB_POOL_SEED=n runs that seed alone; goroutines still interleave freely.
func TestRandomUseNeverBreaksAnInvariant(t *testing.T) {
	from, to := uint64(0), uint64(3000)
	if testing.Short() {
		to = 300
	}
	if s := os.Getenv("MULTIDB_POOL_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		from, to = n, n+1
	}
	for seed := from; seed < to && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), exist: make(map[int]*thing)}
			m.run()
		})
	}
}
