package fleetlog

import "github.com/multidb-go/multidb/internal/fleetlog/format"

// Takeover ends the log of another epoch (F3): it reads up to the first gap, creates a seal
// there, and reads on if something is there by now. When it is Done, no more is ever
// acknowledged in that log, and its Tail is all that was.
type Takeover struct {
	*Tail
	seal   format.Seal
	sealed *format.Seal // created by this one
}

// NewTakeover seals the log of an epoch. The seal has Author, Epoch, Next, Created and Who.
func NewTakeover(seal format.Seal) *Takeover {
	return &Takeover{Tail: NewTail(seal.Epoch), seal: seal}
}

// Asks are the requests that are to be made now: those of the Tail, or one Create.
func (o *Takeover) Asks() ([]Ask, error) {
	if asks := o.Tail.Asks(); len(asks) > 0 || o.Sealed() != nil {
		return asks, nil
	}
	s := o.seal
	s.Seq, s.Trim = o.End(), o.Begin()
	data, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return []Ask{{Op: Create, Name: format.ObjectName(s.Epoch, s.Seq), Data: data}}, nil
}

// Answered takes the outcome of the Create. After Unknown it is asked for again.
func (o *Takeover) Answered(outcome Outcome) {
	switch outcome {
	case Created:
		s := o.seal
		s.Seq, s.Trim = o.Tail.End(), o.Begin()
		o.sealed = &s
	case Exists: // the owner was faster, or another has sealed it, or this one has and the answer was lost
		o.Again()
	}
}

// Sealed is the seal that ends the log, or nil as long as it is not known.
func (o *Takeover) Sealed() *format.Seal {
	if o.sealed != nil {
		return o.sealed
	}
	if !o.Tail.Done() {
		return nil
	}
	return o.Tail.Seal()
}

// Done reports whether the log has ended, and all of it is read.
func (o *Takeover) Done() bool { return o.Sealed() != nil }
