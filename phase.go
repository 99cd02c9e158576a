package multidb

// phase is where a Manager is in its life. It only ever goes forward:
//
//	new ──► starting ──► serving ──► closing ──► closed
//	 │          └─ Start failed ────────────────► closed
//	 └─ Close ──────────────────────────────────► closed
type phase uint8

const (
	phaseNew phase = iota
	phaseStarting
	phaseServing
	phaseClosing
	phaseClosed
)

// life is the phase, and what Close has done so far, so that a Close that ran out of
// time is gone on with and nothing is done twice. Guarded by Manager.mu, but for left,
// which belongs to the Close in progress.
type life struct {
	phase  phase
	served bool          // Start has succeeded: what it made is there
	abort  func()        // while starting: ends Start
	began  chan struct{} // while starting: closed when Start has ended
	stage  closeStage
	left   error // what the shipping of Close could not ship
}

// closeStage is what a Close that ran out of time goes on with.
type closeStage uint8

const (
	closeDrain  closeStage = iota // stop the scans, wait for leases
	closeShip                     // ship what is left
	closeStop                     // stop the workers
	closeRecord                   // write and close the catalog
	closeEnd
)

// start begins Start. False: it may not.
func (l *life) start(abort func()) bool {
	if l.phase != phaseNew {
		return false
	}
	l.phase, l.abort, l.began = phaseStarting, abort, make(chan struct{})
	return true
}

// started ends Start.
func (l *life) started(ok bool) {
	l.phase, l.abort, l.served = phaseClosed, nil, ok
	if ok {
		l.phase = phaseServing
	}
	close(l.began)
}

// close begins Close, or goes on with it. If a Start is in progress it is ended, and
// the channel says when to call again; nil, false: there is nothing left to do.
func (l *life) close() (wait <-chan struct{}, goOn bool) {
	switch l.phase {
	case phaseNew:
		l.phase = phaseClosed
	case phaseStarting:
		l.abort()
		return l.began, false
	case phaseServing, phaseClosing:
		l.phase = phaseClosing
		return nil, true
	}
	return nil, false
}

// serving is nil between Start and Close.
func (l *life) serving() error {
	switch l.phase {
	case phaseServing:
		return nil
	case phaseNew, phaseStarting:
		return ErrNotStarted
	}
	return ErrClosed
}
