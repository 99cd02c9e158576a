package watch

import (
	"errors"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// Source tells what happens in directories. notifier is one.
type Source interface {
	// Add watches a directory; one that is watched already is no error. What it
	// cannot watch for want of something is an error for which outOfWatches holds.
	Add(dir string) error
	// Remove stops watching a directory; one that is not watched is an error.
	Remove(dir string) error
	// WatchList returns the directories that are watched.
	WatchList() []string
	// Events and Errors are closed by Close. fsnotify.ErrEventOverflow among the
	// errors says that events were lost.
	Events() <-chan fsnotify.Event
	Errors() <-chan error
	Close() error
}

// notifier is a Source over fsnotify's Watcher.
type notifier struct {
	w      *fsnotify.Watcher
	errs   chan error
	joined sync.WaitGroup
}

// newNotifier reads the errors apart from the events: fsnotify may report one
// with the lock held that Add and Remove need.
func newNotifier(w *fsnotify.Watcher) *notifier {
	n := &notifier{w: w, errs: make(chan error, 1)}
	n.joined.Go(func() {
		defer close(n.errs)
		for err := range w.Errors {
			if errors.Is(err, syscall.EINVAL) {
				continue // a watch that was to be removed was gone already
			}
			select {
			case n.errs <- err:
			default: // the one before it says as much
			}
		}
	})
	return n
}

func (n *notifier) Add(dir string) error          { return n.w.Add(dir) }
func (n *notifier) Remove(dir string) error       { return n.w.Remove(dir) }
func (n *notifier) WatchList() []string           { return n.w.WatchList() }
func (n *notifier) Events() <-chan fsnotify.Event { return n.w.Events }
func (n *notifier) Errors() <-chan error          { return n.errs }

func (n *notifier) Close() error {
	err := n.w.Close()
	n.joined.Wait()
	return err
}
