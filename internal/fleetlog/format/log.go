package format

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/varint"
)

const (
	// MaxRecords is how many tenants one object has files of.
	MaxRecords = 1 << 17
	// MaxLarge is how many bytes a large file has: more than SQLite can hold.
	MaxLarge = 1 << 49
	// minRecord is how many bytes a record takes at least.
	minRecord = 12
)

// Log is what the footer of a log object says.
type Log struct {
	Author     ID
	Epoch, Seq uint64 // as in its name
	// Packed is the first number of this log below which all records are in their
	// prefixes, so that the newest state needs nothing older. It is at most Seq.
	Packed uint64
	// Trim is the first number of this log below which objects may be gone, and are
	// void if they are there (F4). It is at least 1 and at most Packed.
	Trim     uint64
	Created  int64 // by the author's clock, in milliseconds since 1970
	Releases []int // shards that the owner gives up (F6), ascending
	Records  []Record
	// Forgets are the prefixes that were erased (F9), ascending. An object that has any is
	// written in version 2, which a reader that does not know them refuses.
	Forgets []Forget

	Sum Sum // set by Encode and Decode
}

// Record is one LTX file of level 0: the changes of one tenant.
type Record struct {
	Prefix   string // clean, slash-separated; the records of an object are in its order
	Min, Max uint64 // TXIDs
	Time     int64  // the file's timestamp, in milliseconds since 1970
	// Large is the number of the large file of this epoch that the record is in
	// instead of the payload, or 0.
	Large  uint64
	Offset int64 // in the payload; 0 for a large file
	Size   int64
	CRC    uint32 // Checksum of the file
}

// Forget says that all records of a prefix are void that stand in this log before the
// object that has it, and in other logs below the numbers given.
type Forget struct {
	Prefix string
	Below  []Mark // of other epochs, ascending; at most MaxMarks
}

// Mark is a number in the log of an epoch.
type Mark struct{ Epoch, Seq uint64 }

// MaxMarks bounds the logs that a Forget names: more are live only where none was finished.
const MaxMarks = 1 << 12

// minForget is how many bytes a Forget takes at least, and minMark a Mark.
const (
	minForget = 3
	minMark   = 2
)

// Check compares the file that a record is for with its size and checksum.
func (r Record) Check(file []byte) error {
	if int64(len(file)) != r.Size || Checksum(file) != r.CRC {
		return damaged("the file %d-%d of %q that does not match its checksum", r.Min, r.Max, r.Prefix)
	}
	return nil
}

// Find returns the record of a prefix.
func (l *Log) Find(prefix string) (Record, bool) {
	i, ok := slices.BinarySearchFunc(l.Records, prefix, func(r Record, p string) int { return strings.Compare(r.Prefix, p) })
	if !ok {
		return Record{}, false
	}
	return l.Records[i], true
}

// File is a record with its file, or with no Data if it is a large one.
type File struct {
	Record
	Data []byte
}

// Encode makes a log object of the files, in any order; it sorts them. It sets l.Records
// and l.Sum, and Offset, Size and CRC of what is in the payload. An error is a caller's
// mistake: nothing that Encode returns is refused by Decode.
func (l *Log) Encode(files []File) ([]byte, error) {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Prefix, b.Prefix) })
	slices.SortFunc(l.Forgets, func(a, b Forget) int { return strings.Compare(a.Prefix, b.Prefix) })
	payload, room := 0, 256+8*len(l.Releases)+64*len(l.Forgets)
	for _, f := range files {
		payload += len(f.Data)
		room += len(f.Prefix) + 48
	}
	b := make([]byte, 0, payload+room+trailerSize)
	l.Records = make([]Record, len(files))
	for i, f := range files {
		if f.Large == 0 {
			f.Offset, f.Size, f.CRC = int64(len(b)), int64(len(f.Data)), Checksum(f.Data)
			b = append(b, f.Data...)
		} else if len(f.Data) > 0 {
			return nil, fmt.Errorf("the file of %q is both in the log object and beside it", f.Prefix)
		}
		l.Records[i] = f.Record
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	b = l.appendFooter(b)
	v := uint32(1)
	if len(l.Forgets) > 0 {
		v = 2
	}
	b, sum, err := appendTrailerOf(b, kindLog, payload, v)
	l.Sum = sum
	return b, err
}

// appendFooter appends what the footer says, right or wrong.
func (l *Log) appendFooter(b []byte) []byte {
	b = append(b, l.Author[:]...)
	for _, n := range []uint64{l.Epoch, l.Seq, l.Packed, l.Trim} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, l.Created)
	b = binary.AppendUvarint(b, uint64(len(l.Releases)))
	last := 0
	for _, s := range l.Releases {
		b = binary.AppendUvarint(b, uint64(s-last))
		last = s
	}
	b = binary.AppendUvarint(b, uint64(len(l.Records)))
	for _, r := range l.Records {
		b = binary.AppendUvarint(b, uint64(len(r.Prefix)))
		b = append(b, r.Prefix...)
		b = binary.AppendUvarint(b, r.Min)
		b = binary.AppendUvarint(b, r.Max-r.Min)
		b = binary.AppendVarint(b, r.Time-l.Created)
		b = binary.AppendUvarint(b, r.Large)
		b = binary.AppendUvarint(b, uint64(r.Size))
		b = binary.LittleEndian.AppendUint32(b, r.CRC)
	}
	if len(l.Forgets) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(l.Forgets)))
	for _, f := range l.Forgets {
		b = binary.AppendUvarint(b, uint64(len(f.Prefix)))
		b = append(b, f.Prefix...)
		b = binary.AppendUvarint(b, uint64(len(f.Below)))
		epoch := uint64(0)
		for _, m := range f.Below {
			b = binary.AppendUvarint(b, m.Epoch-epoch)
			b = binary.AppendUvarint(b, m.Seq)
			epoch = m.Epoch
		}
	}
	return b
}

// check refuses what must not be written, and what is read if it would be refused here.
func (l *Log) check() error {
	if l.Epoch == 0 || l.Trim == 0 || l.Packed < l.Trim || l.Seq < l.Packed {
		return damaged("object %d of epoch %d with trim %d and packed %d", l.Seq, l.Epoch, l.Trim, l.Packed)
	}
	for i, s := range l.Releases {
		if s < 0 || s >= Shards || i > 0 && s <= l.Releases[i-1] {
			return damaged("a release of shard %d", s)
		}
	}
	if len(l.Records) > MaxRecords {
		return damaged("%d records in one object, more than %d", len(l.Records), MaxRecords)
	}
	for i, r := range l.Records {
		if err := checkPrefix(r.Prefix); err != nil {
			return err
		}
		switch {
		case i > 0 && r.Prefix <= l.Records[i-1].Prefix:
			return damaged("the prefix %q after %q", r.Prefix, l.Records[i-1].Prefix)
		case r.Min == 0 || r.Max < r.Min:
			return damaged("TXIDs %d to %d of %q", r.Min, r.Max, r.Prefix)
		case r.Size <= 0 || r.Large == 0 && r.Size > MaxObject || r.Size > MaxLarge:
			return damaged("a file of %d bytes of %q", r.Size, r.Prefix)
		}
	}
	return l.checkForgets()
}

func (l *Log) checkForgets() error {
	if len(l.Forgets) > MaxRecords {
		return damaged("%d prefixes that were erased in one object, more than %d", len(l.Forgets), MaxRecords)
	}
	for i, f := range l.Forgets {
		if err := checkPrefix(f.Prefix); err != nil {
			return err
		}
		if i > 0 && f.Prefix <= l.Forgets[i-1].Prefix {
			return damaged("the erased prefix %q after %q", f.Prefix, l.Forgets[i-1].Prefix)
		} else if len(f.Below) > MaxMarks {
			return damaged("%d logs for one erased prefix, more than %d", len(f.Below), MaxMarks)
		}
		for j, m := range f.Below {
			if m.Epoch == 0 || m.Epoch == l.Epoch || j > 0 && m.Epoch <= f.Below[j-1].Epoch {
				return damaged("epoch %d among those that %q is erased from", m.Epoch, f.Prefix)
			}
		}
	}
	return nil
}

func decodeLog(f frame) (*Log, error) {
	r := varint.Reader{B: f.footer}
	l := &Log{Sum: f.sum}
	copy(l.Author[:], r.Take(len(l.Author)))
	l.Epoch, l.Seq, l.Packed, l.Trim = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	l.Created = r.Varint()
	last := 0
	for range r.Count(1) {
		// More than there are shards end in the check of order.
		if n := r.Uvarint(); n < Shards && len(l.Releases) < Shards {
			last += int(n)
			l.Releases = append(l.Releases, last)
		} else {
			r.Fail()
			break
		}
	}
	n := r.Count(minRecord)
	if n > MaxRecords {
		return nil, damaged("%d records in one object, more than %d", n, MaxRecords)
	}
	if n > 0 {
		l.Records = make([]Record, 0, n)
	}
	var offset int64
	for range n {
		var c Record
		c.Prefix = text(&r, MaxPrefix)
		c.Min = r.Uvarint()
		span := r.Uvarint()
		if span > math.MaxUint64-c.Min {
			r.Fail()
		}
		c.Max = c.Min + span
		c.Time = l.Created + r.Varint()
		c.Large = r.Uvarint()
		if size := r.Uvarint(); size <= MaxLarge {
			c.Size = int64(size)
		}
		c.CRC = binary.LittleEndian.Uint32(r.Take(4))
		if r.Bad {
			break
		}
		if c.Large == 0 {
			c.Offset = offset
			if offset += c.Size; offset > f.payload {
				return nil, damaged("a file of %q that is outside of the payload", c.Prefix)
			}
		}
		l.Records = append(l.Records, c)
	}
	if f.version >= 2 {
		l.Forgets = decodeForgets(&r)
	}
	switch {
	case f.version >= 2 && len(l.Forgets) == 0 && !r.Bad:
		return nil, damaged("an object of version 2 in which no prefix is erased")
	case r.Bad || len(r.B) > 0:
		return nil, damaged("a footer that cannot be read to its end")
	case offset != f.payload:
		return nil, damaged("a payload of %d bytes of which the records have %d", f.payload, offset)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	return l, nil
}

// decodeForgets reads what version 2 has at its end.
func decodeForgets(r *varint.Reader) (all []Forget) {
	n := r.Count(minForget)
	if n > MaxRecords {
		r.Fail()
		return nil
	}
	for range n {
		f := Forget{Prefix: text(r, MaxPrefix)}
		marks := r.Count(minMark)
		if marks > MaxMarks {
			r.Fail()
		}
		epoch := uint64(0)
		for range marks {
			d := r.Uvarint()
			if d > math.MaxUint64-epoch {
				r.Fail()
			}
			if r.Bad {
				break
			}
			epoch += d
			f.Below = append(f.Below, Mark{epoch, r.Uvarint()})
		}
		if r.Bad {
			return nil
		}
		all = append(all, f)
	}
	return all
}

// text reads a length and so many bytes.
func text(r *varint.Reader, most int) string {
	n := r.Count(1)
	if n > most {
		r.Fail()
		return ""
	}
	return string(r.Take(n))
}
