package boottime

import (
	"testing"
	"time"
)

func TestTheClockRunsAtTheSpeedOfTheMonotonicOne(t *testing.T) {
	began, start := Now(), time.Now()
	for time.Since(start) < 20*time.Millisecond {
	}
	if got, want := Now()-began, time.Since(start); got < 20*time.Millisecond || got > want {
		t.Fatalf("%v went by, want 20ms to %v", got, want)
	}
}
