package multidb

import (
	"math/bits"
	"sync"
	"time"
)

// LagHistogram is how long commits took to be acknowledged, since the Manager was
// made. It only grows, so that rates and quantiles of any period can be taken of
// it, of several Managers together too.
type LagHistogram struct {
	Count int64         // commits, or runs of them that were shipped together
	Sum   time.Duration // of their lags
	// Buckets[i] counts those of at most LagBounds()[i], the smaller ones
	// included.
	Buckets [lagBuckets]int64
}

const lagBuckets = 14

// lagBounds are the upper bounds of the buckets. Beyond the last is Count alone.
var lagBounds = [lagBuckets]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute,
}

// LagBounds returns the upper bounds of LagHistogram.Buckets. They never change.
func LagBounds() [lagBuckets]time.Duration { return lagBounds }

// lagWindow is a histogram of the last one to two minutes, in buckets that are an
// eighth of a power of two wide, and one since the start. Safe for concurrent use.
type lagWindow struct {
	mu       sync.Mutex
	now, old [lagFine]uint32
	since    time.Time
	total    LagHistogram // its buckets are not cumulative
}

const (
	lagPeriod = time.Minute
	// lagFine is enough for 2^40 microseconds, twelve days: 8 exact ones, then 8
	// for each power of two.
	lagFine = 8 * (40 - 3 + 1)
)

// fineBucket is the bucket of a lag, in microseconds.
func fineBucket(us uint64) int {
	if us < 8 {
		return int(us)
	}
	shift := bits.Len64(us) - 4
	return min(8*shift+int(us>>shift), lagFine-1)
}

// fineBound is the upper end of a bucket: at most an eighth above what is in it.
func fineBound(i int) time.Duration {
	if i < 8 {
		return time.Duration(i) * time.Microsecond
	}
	shift := i/8 - 1
	return time.Duration((uint64(i%8+8+1)<<shift)-1) * time.Microsecond
}

// rotateLocked drops what is older than two periods.
func (w *lagWindow) rotateLocked(now time.Time) {
	switch age := now.Sub(w.since); {
	case age >= 2*lagPeriod:
		w.now, w.old, w.since = [lagFine]uint32{}, [lagFine]uint32{}, now
	case age >= lagPeriod:
		w.old, w.now, w.since = w.now, [lagFine]uint32{}, now
	}
}

func (w *lagWindow) observe(lag time.Duration, now time.Time) {
	lag = max(lag, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rotateLocked(now)
	w.now[fineBucket(uint64(lag.Microseconds()))]++
	w.total.Count++
	w.total.Sum += lag
	for i, bound := range lagBounds {
		if lag <= bound {
			w.total.Buckets[i]++
			break
		}
	}
}

// histogram returns what was observed since the start.
func (w *lagWindow) histogram() LagHistogram {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.total
	for i := 1; i < len(h.Buckets); i++ {
		h.Buckets[i] += h.Buckets[i-1]
	}
	return h
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
				return fineBound(i)
			}
		}
		return 0
	}
	if total == 0 {
		return 0, 0
	}
	return at(50), at(99)
}
