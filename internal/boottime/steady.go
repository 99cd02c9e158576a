package boottime

import "time"

// Steady returns a clock that begins at zero: the later of Now and Go's monotonic clock. In a
// bubble of testing/synctest the second one is that of the bubble, which Now knows nothing of.
func Steady() func() time.Duration {
	began, boot := time.Now(), Now()
	return func() time.Duration { return max(time.Since(began), Now()-boot) }
}
