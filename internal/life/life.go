// Package life is what a Manager may do when: the phases from New to the end of
// Close, and how far a Close that ran out of time has come. It is values and
// decisions only, with no I/O, and is locked by its caller.
package life

import "errors"

// Errors of what comes too early or too late.
var (
	// ErrNotStarted is returned by Serving before Start has succeeded.
	ErrNotStarted = errors.New("manager not started")
	// ErrClosed is returned by Serving once Close has begun, or Start has failed.
	ErrClosed = errors.New("manager closed")
)

// phase is where a Manager is in its life. It only ever goes forward:
//
//	fresh ──► starting ──► serving ──► closing ──► closed
//	  │           └─ Start failed ───────────────► closed
//	  └─ Close ──────────────────────────────────► closed
type phase uint8

const (
	fresh phase = iota
	starting
	serving
	closing
	closed
)

// Life is the phase, and what Close has done so far, so that a Close that ran out of
// time continues where it was and does nothing twice. The zero value is that of a new
// Manager. Its caller holds a lock around every method, and for Left. Stage belongs to
// the Close in progress.
type Life struct {
	Stage Stage
	Left  error // why some databases are not at the replica, once Close has shipped the others

	phase      phase
	served     bool          // Start has succeeded: what it made is there
	abort      func()        // while starting: ends Start
	startEnded chan struct{} // while starting: closed when Start has ended
}

// Stage is what a Close that ran out of time continues with.
type Stage uint8

// The stages, in their order.
const (
	Drain  Stage = iota // stop the scans, wait for leases
	Ship                // ship what the replica lacks
	Stop                // stop the workers
	Record              // write and close the catalog
	End                 // wait for the last goroutines
)

// Start begins Start, which abort ends, and reports whether it may begin.
func (l *Life) Start(abort func()) bool {
	if l.phase != fresh {
		return false
	}
	l.phase, l.abort, l.startEnded = starting, abort, make(chan struct{})
	return true
}

// Started ends Start, which has succeeded or not.
func (l *Life) Started(ok bool) {
	l.phase, l.abort, l.served = closed, nil, ok
	if ok {
		l.phase = serving
	}
	close(l.startEnded)
}

// Close begins Close, or continues it. If a Start is in progress it is ended, and
// the channel says when to call again. With nil and false there is nothing left to do.
func (l *Life) Close() (wait <-chan struct{}, goOn bool) {
	switch l.phase {
	case fresh:
		l.phase = closed
	case starting:
		l.abort()
		return l.startEnded, false
	case serving, closing:
		l.phase = closing
		return nil, true
	}
	return nil, false
}

// Closed ends Close.
func (l *Life) Closed() { l.phase = closed }

// Serving returns nil between Start and Close, otherwise ErrNotStarted or ErrClosed.
func (l *Life) Serving() error {
	switch l.phase {
	case serving:
		return nil
	case fresh, starting:
		return ErrNotStarted
	}
	return ErrClosed
}

// Closing reports whether Close has begun, or ended, or Start has failed.
func (l *Life) Closing() bool { return l.phase >= closing }

// Served reports whether Start has succeeded, also after Close.
func (l *Life) Served() bool { return l.served }
