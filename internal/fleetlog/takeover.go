package fleetlog

import "github.com/multidb-go/multidb/internal/fleetlog/format"

// Takeover ends the log of another epoch (F3): it reads up to the first gap, creates a seal
// there, and reads again, whether the seal was created or something was there by then. It
// is Done when such a reading ends at a seal. Then no more is ever acknowledged in that
// log, and its Tail is all that was.
//
// That the seal was created is not enough: if this process slept before it asked for that,
// the owner may have filled the gap, gone on, and trimmed and deleted what stood there.
// Such a seal stands below the trim and is void. A listing that was made later shows it.
type Takeover struct {
	*Tail
	seal format.Seal // as it was asked for last
}

// NewTakeover seals the log of an epoch. The seal has Author, Epoch, Next, Created and Who.
func NewTakeover(seal format.Seal) *Takeover {
	return &Takeover{Tail: NewTail(seal.Epoch), seal: seal}
}

// Asks are the requests that are to be made now: those of the Tail, or one Create.
func (o *Takeover) Asks() ([]Ask, error) {
	if asks := o.Tail.Asks(); len(asks) > 0 || o.Done() {
		return asks, nil
	}
	o.seal.Seq, o.seal.Trim = o.End(), o.Trim()
	data, err := o.seal.Encode()
	if err != nil {
		return nil, err
	}
	return []Ask{{Op: Create, Name: format.ObjectName(o.seal.Epoch, o.seal.Seq), Data: data}}, nil
}

// Answered takes the outcome of the Create. After Unknown it is asked for again.
func (o *Takeover) Answered(outcome Outcome) {
	if outcome == Created { // it need not be read
		s := o.seal
		o.Read(s.Seq, &format.Entry{Seal: &s})
	}
	if outcome != Unknown {
		o.Again()
	}
}

// Done reports whether the log has ended, and all of it is read: Tail.Seal is the end.
func (o *Takeover) Done() bool { return o.Tail.Done() && o.Seal() != nil }
