package fleetlog

import "errors"

// ErrFenced is returned when another process has sealed the log. What was not
// acknowledged by then never will be.
var ErrFenced = errors.New("another process has taken over the fleet log")

// ErrMoved is returned when the map does not say any more what a change relies on. The
// map is as it was; whoever wanted the change reads it and decides anew.
var ErrMoved = errors.New("the map of the fleet log has changed in between")

// Op is a kind of request.
type Op int

const (
	// Nothing is to be requested: an answer is awaited, or all is done.
	Nothing Op = iota
	// List the objects whose names begin with Name and are greater than After.
	List
	// Read the end of an object, or that there is none.
	Read
	// Create an object with Data, unless one is there.
	Create
)

// Ask is one request that a machine wants made. A caller that got no answer, or an error
// that says nothing of the store's state, makes it again.
type Ask struct {
	Op    Op
	Name  string
	After string
	Data  []byte
}

// Outcome is how a Create ended.
type Outcome int

const (
	// Unknown is any error that does not say that something is there: the object may
	// have been created, or may be at any later time.
	Unknown Outcome = iota
	// Created means that it is there now, and durable.
	Created
	// Exists means that an object was there before. It may be a copy of this one, of
	// which the answer was lost.
	Exists
)
