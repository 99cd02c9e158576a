// Package lag counts how long it took until commits were acknowledged: in one histogram
// since the start, and in one of the last minutes, for quantiles. The caller passes the
// time in, and the package does no I/O. A Window has a lock of its own, under which it
// calls nothing.
package lag

import (
	"math/bits"
	"sync"
	"time"
)

// Buckets is how many buckets a Histogram has.
const Buckets = 14

var bounds = [Buckets]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute,
}

// Bounds returns the upper bounds of the buckets, in ascending order. A lag above
// the last one is in Count alone.
func Bounds() [Buckets]time.Duration { return bounds }

// Histogram is all lags that were observed.
type Histogram struct {
	Count int64
	Sum   time.Duration
	// Buckets[i] counts the lags of at most Bounds()[i], including those that the
	// buckets before it count.
	Buckets [Buckets]int64
}

// Window is a histogram of the last one to two minutes, in buckets that are an
// eighth of a power of two wide, and one of everything since the start. The zero
// value is ready to use. Safe for concurrent use.
type Window struct {
	mu       sync.Mutex
	now, old [fineBuckets]uint32 // the current period, and the one before it
	since    time.Time           // when the current period began
	total    Histogram           // its buckets are not cumulative
}

const (
	period = time.Minute
	// fineBuckets buckets are enough for 2^40 microseconds, which is twelve days: 8 of one
	// microsecond each, then 8 for each power of two.
	fineBuckets = 8 * (40 - 3 + 1)
)

// fineBucket is the bucket of a lag, in microseconds.
func fineBucket(us uint64) int {
	if us < 8 {
		return int(us)
	}
	shift := bits.Len64(us) - 4
	return min(8*shift+int(us>>shift), fineBuckets-1)
}

// fineBound is the upper end of a bucket: at most an eighth above any lag in it.
func fineBound(i int) time.Duration {
	if i < 8 {
		return time.Duration(i) * time.Microsecond
	}
	shift := i/8 - 1
	return time.Duration((uint64(i%8+8+1)<<shift)-1) * time.Microsecond
}

// rotateLocked drops what is older than two periods.
func (w *Window) rotateLocked(now time.Time) {
	switch age := now.Sub(w.since); {
	case age >= 2*period:
		w.now, w.old, w.since = [fineBuckets]uint32{}, [fineBuckets]uint32{}, now
	case age >= period:
		w.old, w.now, w.since = w.now, [fineBuckets]uint32{}, now
	}
}

// Observe counts a lag. A negative one, of a clock that was set back, counts as zero.
func (w *Window) Observe(lag time.Duration, now time.Time) {
	lag = max(lag, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rotateLocked(now)
	w.now[fineBucket(uint64(lag.Microseconds()))]++
	w.total.Count++
	w.total.Sum += lag
	for i, bound := range bounds {
		if lag <= bound {
			w.total.Buckets[i]++
			break
		}
	}
}

// Histogram returns what was observed since the start.
func (w *Window) Histogram() Histogram {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.total
	for i := 1; i < len(h.Buckets); i++ {
		h.Buckets[i] += h.Buckets[i-1]
	}
	return h
}

// Quantiles returns the median and the 99th percentile of the last one to two
// minutes, rounded up by an eighth at most. Both are zero if nothing was observed.
func (w *Window) Quantiles(now time.Time) (p50, p99 time.Duration) {
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
