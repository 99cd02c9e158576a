package watch

import (
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Open returns the system's source: inotify, with one watch and no descriptor
// per directory. In virtual time it is ErrVirtual.
func Open() (Source, error) {
	if virtual() {
		return nil, ErrVirtual
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("%w; see fs.inotify.max_user_instances", err)
	}
	return newNotifier(w), nil
}

// virtualBy is how far the time is from the system's where it is virtual: in a bubble of
// testing/synctest it begins in the year 2000.
const virtualBy = 24 * time.Hour

// virtual reports whether time.Now is not the time of the system. If the clock is set
// between the two readings, directories are polled without need, and nothing is lost.
func virtual() bool {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return false
	}
	return time.Unix(ts.Unix()).Sub(time.Now()).Abs() > virtualBy
}
