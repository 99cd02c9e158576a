package multidb

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/internal/ship"
)

// Stats is the Manager's totals: since Start, but for those that say otherwise.
type Stats struct {
	Databases       int // known now
	Cold, Warm, Hot int // of them now
	Running         int // being worked on now
	Failing         int // waiting after a failure now
	Stopped         int // refused or fenced now

	Promotions, Demotions int64
	Transactions          int64 // shipped
	Bytes                 int64 // of LTX written by shipping
	Resyncs               int64 // whole states shipped where a continuation was not provable
	Compactions           int64
	Snapshots             int64
	Failures              int64 // runs that failed

	// LagP50 and LagP99 are from commit to acknowledgement, of the last one to
	// two minutes; zero if nothing was shipped. Powers of two, in ms.
	LagP50, LagP99 time.Duration

	Pool     PoolStats
	Requests RequestStats // of the replica, if its factory counts
}

// PoolStats is the connection pool.
type PoolStats struct {
	Open, Leased, Idle int // databases now
	Waiting            int // callers of Acquire now
	Opens, Hits        int64
	Evictions          int64
}

// Stats returns the totals. It costs the same however many databases there are.
func (m *Manager) Stats() Stats {
	var s Stats
	m.mu.Lock()
	var backing int
	s.Cold, s.Warm, s.Hot, s.Running, backing, s.Stopped = m.fleet.Counts()
	s.Databases, s.Failing = len(m.entries), backing
	serving := m.phase >= phaseServing
	m.unlock()
	c := &m.counters
	s.Promotions, s.Demotions = c.promotions.Load(), c.demotions.Load()
	s.Transactions, s.Bytes = c.transactions.Load(), c.bytes.Load()
	s.Resyncs, s.Compactions, s.Snapshots = c.resyncs.Load(), c.compactions.Load(), c.snapshots.Load()
	s.Failures = c.failures.Load()
	s.LagP50, s.LagP99 = c.lag.quantiles(m.cfg.now())
	if serving {
		p := m.pool.Stats()
		s.Pool = PoolStats{Open: p.Open, Leased: p.Leased, Idle: p.Idle, Waiting: p.Waiting,
			Opens: p.Opens, Hits: p.Hits, Evictions: p.Evictions}
	}
	if r, ok := m.cfg.replica.(ReplicaStats); ok {
		s.Requests = r.RequestStats()
	}
	return s
}

type counters struct {
	promotions, demotions, transactions, bytes, resyncs atomic.Int64
	compactions, snapshots, failures                    atomic.Int64
	lag                                                 lagWindow
}

func (m *Manager) count(r ship.Result) {
	m.counters.transactions.Add(int64(r.Txns))
	m.counters.bytes.Add(r.Bytes)
}

// lagWindow is a histogram, by powers of two of a millisecond, of the last one
// to two minutes. Safe for concurrent use.
type lagWindow struct {
	mu       sync.Mutex
	now, old [40]uint32
	since    time.Time
}

const lagPeriod = time.Minute

// rotateLocked drops what is older than two periods.
func (w *lagWindow) rotateLocked(now time.Time) {
	switch age := now.Sub(w.since); {
	case age >= 2*lagPeriod:
		w.now, w.old, w.since = [40]uint32{}, [40]uint32{}, now
	case age >= lagPeriod:
		w.old, w.now, w.since = w.now, [40]uint32{}, now
	}
}

func (w *lagWindow) observe(lag time.Duration, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rotateLocked(now)
	w.now[min(bits.Len64(uint64(max(lag.Milliseconds(), 0))), len(w.now)-1)]++
}

func (w *lagWindow) quantiles(now time.Time) (p50, p99 time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rotateLocked(now)
	total := uint64(0)
	for i := range w.now {
		total += uint64(w.now[i]) + uint64(w.old[i])
	}
	at := func(q uint64) time.Duration {
		want, sum := (total*q+99)/100, uint64(0)
		for i := range w.now {
			if sum += uint64(w.now[i]) + uint64(w.old[i]); sum >= want {
				return time.Duration(1<<i) * time.Millisecond
			}
		}
		return 0
	}
	if total == 0 {
		return 0, 0
	}
	return at(50), at(99)
}
