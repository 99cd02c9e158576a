package format

import (
	"encoding/binary"

	"github.com/multidb-go/multidb/internal/varint"
)

// MaxText bounds the names of nodes, in bytes.
const MaxText = 256

// Seal ends a log (F3). It stands at the first number that has no object, and is never
// deleted.
type Seal struct {
	Author     ID
	Epoch, Seq uint64 // as in its name
	// Trim is that of the newest object, for whoever finds no other but the seal.
	Trim    uint64
	Next    uint64 // the epoch that takes over, or 0 if that is not known yet
	Created int64  // by the author's clock, in milliseconds since 1970
	Who     string // the author's node, for people

	Sum Sum // set by Encode and Decode
}

// Encode makes the object.
func (s *Seal) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 128+len(s.Who)), s.Author[:]...)
	for _, n := range []uint64{s.Epoch, s.Seq, s.Trim, s.Next} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, s.Created)
	b = binary.AppendUvarint(b, uint64(len(s.Who)))
	b = append(b, s.Who...)
	b, sum, err := appendTrailer(b, kindSeal, 0)
	s.Sum = sum
	return b, err
}

func (s *Seal) check() error {
	if s.Epoch == 0 || s.Trim == 0 || s.Seq < s.Trim || s.Next == s.Epoch || len(s.Who) > MaxText {
		return damaged("the seal %d of epoch %d with trim %d and epoch %d after it, by %.80q", s.Seq, s.Epoch, s.Trim, s.Next, s.Who)
	}
	return nil
}

func decodeSeal(f frame) (*Seal, error) {
	r := varint.Reader{B: f.footer}
	s := &Seal{Sum: f.sum}
	copy(s.Author[:], r.Take(len(s.Author)))
	s.Epoch, s.Seq, s.Trim, s.Next = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	s.Created = r.Varint()
	s.Who = text(&r, MaxText)
	if r.Bad || len(r.B) > 0 || f.payload > 0 {
		return nil, damaged("a seal that cannot be read to its end")
	}
	return s, s.check()
}

// Entry is what stands under a number of a log: one of the two.
type Entry struct {
	Log  *Log
	Seal *Seal
}

// Sum is that of the object.
func (e Entry) Sum() Sum {
	if e.Seal != nil {
		return e.Seal.Sum
	}
	return e.Log.Sum
}

// Trim is that of the object.
func (e Entry) Trim() uint64 {
	if e.Seal != nil {
		return e.Seal.Trim
	}
	return e.Log.Trim
}

// Decode reads the object that stands under a number, of which the last bytes are given
// and the size is known. If they are too few, there is no entry yet, and need is how many
// of the last bytes it takes; it is never above MaxFooter and a few.
func Decode(end []byte, size int64, epoch, seq uint64) (e Entry, need int64, err error) {
	f, need, err := openFrame(end, size)
	if err != nil || need > 0 {
		return Entry{}, need, err
	}
	var haveEpoch, haveSeq uint64
	switch f.kind {
	case kindLog:
		if e.Log, err = decodeLog(f); err == nil {
			haveEpoch, haveSeq = e.Log.Epoch, e.Log.Seq
		}
	case kindSeal:
		if e.Seal, err = decodeSeal(f); err == nil {
			haveEpoch, haveSeq = e.Seal.Epoch, e.Seal.Seq
		}
	default:
		err = damaged("an object of kind %d under the name %s", f.kind, ObjectName(epoch, seq))
	}
	if err == nil && (haveEpoch != epoch || haveSeq != seq) {
		err = damaged("object %d of epoch %d under the name %s", haveSeq, haveEpoch, ObjectName(epoch, seq))
	}
	if err != nil {
		return Entry{}, 0, err
	}
	return e, 0, nil
}
