//go:build unix

package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// began keeps Now above zero where no such clock can be read.
var began = time.Now()

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return time.Since(began) + 1 // a kernel of before 2011
	}
	return time.Duration(ts.Nano())
}
