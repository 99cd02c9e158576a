package lag

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesOfTheLagAreRoundedUpByAnEighthAtMost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var w Window
		now := time.Unix(1000, 0)
		lags := make([]time.Duration, 1+rnd.IntN(300))
		for i := range lags {
			lags[i] = time.Duration(rnd.Int64N(1 << (1 + rnd.IntN(45))))
			w.Observe(lags[i], now)
		}
		slices.Sort(lags)
		p50, p99 := w.Quantiles(now)
		for q, got := range map[int]time.Duration{50: p50, 99: p99} {
			want := lags[(len(lags)*q+99)/100-1].Truncate(time.Microsecond)
			if got < want || got > want+want/8 {
				t.Fatalf("seed %d: p%d of %d is %v, want %v", seed, q, len(lags), got, want)
			}
		}
	}
}

func TestEachLagHasOneBucketAndEndsAtItsBound(t *testing.T) {
	last := -1
	for us := uint64(0); us < 1<<14; us++ {
		i := fineBucket(us)
		if i != last && i != last+1 {
			t.Fatalf("%d µs go to bucket %d after %d", us, i, last)
		}
		last = i
		if below := i > 0 && uint64(fineBound(i-1).Microseconds()) >= us; below || uint64(fineBound(i).Microseconds()) < us {
			t.Fatalf("%d µs are in bucket %d, %v to %v", us, i, fineBound(i-1), fineBound(i))
		}
	}
	if i := fineBucket(1 << 63); i != fineBuckets-1 {
		t.Errorf("a very long one goes to bucket %d", i)
	}
}

func TestQuantilesForgetAndTheHistogramDoesNot(t *testing.T) {
	var w Window
	now := time.Unix(1000, 0)
	for range 10 {
		w.Observe(40*time.Millisecond, now)
	}
	w.Observe(2*time.Hour, now)
	w.Observe(-time.Second, now) // the clock of the files was ahead
	later := now.Add(3 * period)
	w.Observe(time.Second, later)
	if p50, _ := w.Quantiles(later); p50 < time.Second || p50 > 1125*time.Millisecond {
		t.Errorf("p50 %v", p50)
	}
	h := w.Histogram()
	if h.Count != 13 || h.Sum != 400*time.Millisecond+2*time.Hour+time.Second {
		t.Errorf("%d, %v", h.Count, h.Sum)
	}
	for i, bound := range Bounds() {
		want := int64(1)
		switch {
		case bound >= time.Second:
			want = 12
		case bound >= 50*time.Millisecond:
			want = 11
		}
		if h.Buckets[i] != want {
			t.Errorf("%d of at most %v, want %d", h.Buckets[i], bound, want)
		}
	}
	if !slices.IsSorted(bounds[:]) {
		t.Error("the bounds are not in order")
	}
}
