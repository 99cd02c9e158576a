package fleetlog

import (
	"fmt"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// Depth is how many objects of one log may be under way at once.
const Depth = 2

// Writer writes one log: it numbers the objects, and acknowledges them in order (F1).
type Writer struct {
	author       format.ID
	epoch        uint64
	next, acked  uint64
	packed, trim uint64
	deletable    uint64
	flights      []*Flight // not acknowledged, in order
	err          error
}

// Flight is an object that is under way.
type Flight struct {
	Log  *format.Log
	name string
	data []byte
	at   stage
	why  error // refused
}

type stage int

const (
	sending stage = iota
	looking       // something was there: is it this?
	landed
	refused // something else is there
)

// NewWriter begins the log of an epoch that the map has given to this process life, and
// in which nothing was written yet. The author is the life's own random number.
func NewWriter(author format.ID, epoch uint64) *Writer {
	return &Writer{author: author, epoch: epoch, next: 1, packed: 1, trim: 1, deletable: 1}
}

// Room reports whether another object may be begun.
func (w *Writer) Room() bool {
	if w.err != nil || len(w.flights) >= Depth {
		return false
	}
	for _, f := range w.flights {
		if f.at == refused { // those before it are decided, then the log has ended
			return false
		}
	}
	return true
}

// Put begins the next object. The caller has asked for Room. After an error of the
// encoder, which is a caller's mistake, nothing has begun.
func (w *Writer) Put(created int64, files []format.File, forgets []format.Forget, releases []int) (*Flight, error) {
	if !w.Room() {
		panic("fleetlog: Put without room")
	}
	l := &format.Log{Author: w.author, Epoch: w.epoch, Seq: w.next, Packed: w.packed, Trim: w.trim, Created: created, Forgets: forgets, Releases: releases}
	data, err := l.Encode(files)
	if err != nil {
		return nil, err
	}
	f := &Flight{Log: l, name: format.ObjectName(w.epoch, w.next), data: data}
	w.next++
	w.flights = append(w.flights, f)
	return f, nil
}

// Ask is what is to be requested for a flight now.
func (f *Flight) Ask() Ask {
	switch f.at {
	case sending:
		return Ask{Op: Create, Name: f.name, Data: f.data}
	case looking:
		return Ask{Op: Read, Name: f.name}
	}
	return Ask{}
}

// Answered takes the outcome of a Create. After Unknown it is asked for again.
func (f *Flight) Answered(o Outcome) {
	if f.at != sending {
		return
	}
	switch o {
	case Created:
		f.land()
	case Exists:
		f.at = looking
	}
}

// Looked takes what a Read found: an entry, or nil for nothing; then the object is created
// again.
func (f *Flight) Looked(e *format.Entry) {
	switch {
	case f.at != looking:
	case e == nil:
		f.at = sending
	case e.Sum() == f.Log.Sum:
		f.land()
	case e.Seal != nil:
		f.Refuse(fmt.Errorf("%w: %q has sealed it at %s", ErrFenced, e.Seal.Who, f.name))
	default:
		f.Refuse(fmt.Errorf("%w: %s is not by this process", ErrFenced, f.name))
	}
}

// Refuse ends a flight in whose place something stands that cannot be this one: a Read
// found damage, or a newer version.
func (f *Flight) Refuse(why error) {
	if f.at == landed {
		return
	}
	f.at, f.why, f.data = refused, why, nil
}

func (f *Flight) land() { f.at, f.data = landed, nil }

// Acknowledged returns the next object of which it is certain that every reader finds it,
// or nil if there is none now. What it holds is durable only then, and may be unpacked.
func (w *Writer) Acknowledged() *format.Log {
	if w.err != nil || len(w.flights) == 0 {
		return nil
	}
	f := w.flights[0]
	switch f.at {
	case landed:
		w.flights = w.flights[1:]
		w.acked = f.Log.Seq
		w.deletable = f.Log.Trim
		return f.Log
	case refused:
		w.err = f.why
		w.flights = nil
	}
	return nil
}

// Err is the error with which the log has ended for this process, or nil. It is set by
// Acknowledged, after all that was acknowledged before the end.
func (w *Writer) Err() error { return w.err }

// Epoch is whose log it is.
func (w *Writer) Epoch() uint64 { return w.epoch }

// Acked is the number of the last acknowledged object, or 0.
func (w *Writer) Acked() uint64 { return w.acked }

// Idle reports whether nothing is under way.
func (w *Writer) Idle() bool { return len(w.flights) == 0 }

// Unpacked says below which numbers all records are in their prefixes (packed), and below
// which they are also old enough to be deleted (trim). The objects to come carry both.
// They never go back, and are at most the number after the last acknowledged one.
func (w *Writer) Unpacked(packed, trim uint64) {
	w.packed = max(w.packed, min(packed, w.acked+1))
	w.trim = max(w.trim, min(trim, w.packed))
}

// Deletable is the number below which objects may be deleted: an acknowledged object says
// that they are not needed (F4).
func (w *Writer) Deletable() uint64 { return w.deletable }
