package boottime

import (
	"testing"
	"time"
)

func TestTheClockRunsAtTheSpeedOfTheMonotonicOne(t *testing.T) {
	outer := time.Now()
	began := Now()
	inner := time.Now()
	for time.Since(inner) < 20*time.Millisecond {
	}
	least := time.Since(inner)
	got := Now() - began
	most := time.Since(outer)
	if got < least-time.Microsecond || got > most+time.Microsecond { // each clock is read to the nanosecond
		t.Fatalf("%v went by, want %v to %v", got, least, most)
	}
}
