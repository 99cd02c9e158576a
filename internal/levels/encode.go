package levels

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/varint"
)

const (
	encodingVersion = 2
	checksumSize    = 4
	maxTime         = 1 << 53 // of created, ms: no sum with a duration overflows
)

// The encoding is the version; then, for each level, in integers of variable length, the
// number of files and for each file the distance of its first TXID from the last TXID of
// the file before, the number of its TXIDs less one, its size and the time since the last
// known time (the least integer if it is unknown); then the epochs, the strays, the marks,
// and a CRC-32C of all of these.

// AppendBinary appends the inventory to b, in about 7 bytes for a small file.
// The error is always nil.
func (v *Inventory) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, encodingVersion)
	for level := range v.levels {
		files := v.levels[level].files
		b = binary.AppendUvarint(b, uint64(len(files)))
		var txid ltx.TXID
		var created int64
		for _, f := range files {
			b = binary.AppendVarint(b, int64(f.min-txid))
			b = binary.AppendUvarint(b, uint64(f.max-f.min))
			b = binary.AppendUvarint(b, uint64(f.size))
			txid = f.max
			if f.created == unknownTime {
				b = binary.AppendVarint(b, unknownTime)
				continue
			}
			b = binary.AppendVarint(b, f.created-created)
			created = f.created
		}
	}
	b = binary.AppendUvarint(b, uint64(len(v.epochs)))
	for _, txid := range v.epochs {
		b = binary.AppendUvarint(b, uint64(txid))
	}
	b = binary.AppendUvarint(b, uint64(len(v.strays)))
	for _, k := range v.strays {
		b = append(b, byte(k.level))
		b = binary.AppendUvarint(b, uint64(k.min))
		b = binary.AppendUvarint(b, uint64(k.max-k.min))
	}
	b = binary.AppendUvarint(b, uint64(len(v.marks)))
	var m mark
	for _, next := range v.marks {
		b = binary.AppendVarint(b, next.at-m.at)
		b = binary.AppendUvarint(b, uint64(next.txid-m.txid))
		m = next
	}
	return binary.BigEndian.AppendUint32(b, checksum(b[start:])), nil
}

// UnmarshalBinary replaces the inventory by an encoded one. If it returns an error, which
// wraps ErrEncoding, it has changed nothing. Whatever b is, it uses memory of at most a
// small multiple of len(b).
func (v *Inventory) UnmarshalBinary(b []byte) error {
	n := len(b) - checksumSize
	if n < 1 || binary.BigEndian.Uint32(b[n:]) != checksum(b[:n]) {
		return fmt.Errorf("%w: wrong checksum", ErrEncoding)
	}
	if b[0] != encodingVersion {
		return fmt.Errorf("%w: version %d", ErrEncoding, b[0])
	}
	d := decoder{varint.Reader{B: b[1:n]}}
	var w Inventory
	for level := range w.levels {
		d.files(&w.levels[level])
	}
	w.epochs = d.epochs()
	w.strays = d.strays(&w)
	w.marks = d.marks()
	if d.Bad || len(d.B) > 0 {
		return fmt.Errorf("%w: malformed", ErrEncoding)
	}
	v.DropCached()
	w.shelf = v.shelf
	*v = w
	return nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decoder reads what AppendBinary wrote.
type decoder struct{ varint.Reader }

func (d *decoder) files(l *list) {
	n := d.Count(4)
	if n == 0 {
		return
	}
	l.files = make([]file, 0, n)
	var txid ltx.TXID
	var created int64
	for range n {
		f := file{min: txid + ltx.TXID(d.Varint()), created: unknownTime}
		f.max = f.min + ltx.TXID(d.Uvarint())
		size := d.Uvarint()
		f.size = int64(size & math.MaxInt64)
		if dt := d.Varint(); dt != unknownTime {
			f.created = created + dt
			created = f.created
			if created > maxTime || created < -maxTime {
				d.Fail()
			}
		}
		txid = f.max
		ordered := len(l.files) == 0 || compareFiles(l.files[len(l.files)-1], f) < 0
		if d.Bad || !(key{0, f.min, f.max}).valid() || size > math.MaxInt64 || !ordered {
			d.Fail()
			return
		}
		l.files = append(l.files, f)
		l.max = max(l.max, f.max)
	}
}

func (d *decoder) epochs() []ltx.TXID {
	var epochs []ltx.TXID
	for range d.Count(1) {
		txid := ltx.TXID(d.Uvarint())
		if d.Bad || len(epochs) > 0 && epochs[len(epochs)-1] >= txid {
			d.Fail()
			return nil
		}
		epochs = append(epochs, txid)
	}
	return epochs
}

// strays reads the strays, none of which may be a file of v.
func (d *decoder) strays(v *Inventory) []key {
	var strays []key
	for range d.Count(3) {
		if len(d.B) == 0 {
			d.Fail()
			return nil
		}
		k := key{level: int(d.B[0])}
		d.B = d.B[1:]
		k.min = ltx.TXID(d.Uvarint())
		k.max = k.min + ltx.TXID(d.Uvarint())
		ordered := len(strays) == 0 || compareKeys(strays[len(strays)-1], k) < 0
		if d.Bad || !k.valid() || !ordered || v.levels[k.level].has(k.min, k.max) {
			d.Fail()
			return nil
		}
		strays = append(strays, k)
	}
	return strays
}

func (d *decoder) marks() []mark {
	var marks []mark
	var m mark
	for range d.Count(2) {
		next := mark{m.at + d.Varint(), m.txid + ltx.TXID(d.Uvarint())}
		if d.Bad || next.at > maxTime || next.at < -maxTime || len(marks) > 0 && next.at < m.at || next.txid <= m.txid {
			d.Fail()
			return nil
		}
		m = next
		marks = append(marks, m)
	}
	return marks
}
