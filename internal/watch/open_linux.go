package watch

import (
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// Open returns the system's source: inotify, with one watch and no descriptor
// per directory.
func Open() (Source, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("%w; see fs.inotify.max_user_instances", err)
	}
	return newNotifier(w), nil
}
