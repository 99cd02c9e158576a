//go:build unix && !linux

package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since an arbitrary point in the past, the same for the whole
// life of the process. Safe for concurrent use. CLOCK_MONOTONIC counts sleep
// here (clock_gettime(3) of macOS).
func Now() time.Duration { return read(unix.CLOCK_MONOTONIC) }
