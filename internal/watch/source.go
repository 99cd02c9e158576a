package watch

import (
	"errors"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// ErrVirtual is returned by Open in a bubble of testing/synctest. Its time stands still as
// long as one of its goroutines waits for the system, and reading notifications is that: the
// test would hang. So directories are polled there.
var ErrVirtual = errors.New("time is virtual (testing/synctest)")

// Source reports what happens in directories. notifier is one.
type Source interface {
	// Add watches a directory. A directory that is watched already is no error. If a
	// limit of the system is reached, outOfWatches reports true for the error.
	Add(dir string) error
	// Remove stops watching a directory; one that is not watched is an error.
	Remove(dir string) error
	// WatchList returns the directories that are watched.
	WatchList() []string
	// Close closes the channels of Events and Errors. fsnotify.ErrEventOverflow among
	// the errors means that events were lost.
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

// newNotifier reads the errors in a goroutine of their own: fsnotify may report one
// while it holds the lock that Add and Remove need.
func newNotifier(w *fsnotify.Watcher) *notifier {
	n := &notifier{w: w, errs: make(chan error, 1)}
	n.joined.Go(func() {
		defer close(n.errs)
		for err := range w.Errors {
			if errors.Is(err, syscall.EINVAL) {
				continue // a watch that was to be removed did not exist any more
			}
			select {
			case n.errs <- err:
			default: // an earlier error waits, which has the same effect
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
