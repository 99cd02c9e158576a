// Package life has the phases of a Manager from New to the end of Close: what may be called
// when, and how far a Close has come that ran out of time. It is pure: it has no lock and
// does no I/O. Its caller locks it.
package life

import "errors"

// Errors of calls that come too early or too late.
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

// Life is the phase of a Manager, and what Close has done so far, so that a second Close
// continues where one that ran out of time has stopped. The zero value is that of a new
// Manager. The caller holds its lock for every method and for Left. Stage belongs to the
// Close in progress.
type Life struct {
	Stage Stage
	Left  error // why Close could not ship some databases; it has shipped the others

	phase      phase
	served     bool          // Start has succeeded, so that there is something to close
	abort      func()        // while starting: makes Start return
	startEnded chan struct{} // while starting: closed when Start has ended
}

// Stage is where a Close that ran out of time continues.
type Stage uint8

// The stages, in their order.
const (
	Drain  Stage = iota // stop the scans, wait for leases
	Ship                // ship what the replica lacks
	Stop                // stop the workers
	Record              // write and close the catalog
	End                 // wait for the last goroutines
)

// Start is called when the Manager's Start begins, and reports whether it may go on. abort
// makes it return.
func (l *Life) Start(abort func()) bool {
	if l.phase != fresh {
		return false
	}
	l.phase, l.abort, l.startEnded = starting, abort, make(chan struct{})
	return true
}

// Started is called when the Manager's Start has succeeded or failed.
func (l *Life) Started(ok bool) {
	l.phase, l.abort, l.served = closed, nil, ok
	if ok {
		l.phase = serving
	}
	close(l.startEnded)
}

// Close is called when the Manager's Close begins, and reports whether it may go on. If a
// Start is in progress, Close aborts it and returns a channel: call Close again when that
// is closed. If it returns nil and false, there is nothing to close.
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

// Closed is called when the Manager's Close has done everything.
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
