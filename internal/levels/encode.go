package levels

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/superfly/ltx"
)

const (
	encodingVersion = 2
	checksumSize    = 4
	maxTime         = 1 << 53 // of created, ms: no sum with a duration overflows
)

// The encoding is the version; then, for each level, in integers of variable length, the
// number of files and for each file the distance of its first TXID from the last TXID of
// the file before, the number of its TXIDs less one, its size and the time since the last
// known time (the least integer if it is unknown); then the cuts, the strays, the marks,
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
	b = binary.AppendUvarint(b, uint64(len(v.cuts)))
	for _, txid := range v.cuts {
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

// UnmarshalBinary replaces the inventory by an encoded one. On an error, which wraps
// ErrEncoding, it changes nothing. It takes memory of at most a small multiple of len(b),
// whatever b is.
func (v *Inventory) UnmarshalBinary(b []byte) error {
	n := len(b) - checksumSize
	if n < 1 || binary.BigEndian.Uint32(b[n:]) != checksum(b[:n]) {
		return fmt.Errorf("%w: wrong checksum", ErrEncoding)
	}
	if b[0] != encodingVersion {
		return fmt.Errorf("%w: version %d", ErrEncoding, b[0])
	}
	d := decoder{b: b[1:n]}
	var w Inventory
	for level := range w.levels {
		d.files(&w.levels[level])
	}
	w.cuts = d.cuts()
	w.strays = d.strays(&w)
	w.marks = d.marks()
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: malformed", ErrEncoding)
	}
	v.Forget()
	w.shelf = v.shelf
	*v = w
	return nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decoder reads what AppendBinary wrote. After a failure it is bad and yields
// zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

// count reads the number of things that follow, each of which takes size bytes or more.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) files(l *list) {
	n := d.count(4)
	if n == 0 {
		return
	}
	l.files = make([]file, 0, n)
	var txid ltx.TXID
	var created int64
	for range n {
		f := file{min: txid + ltx.TXID(d.varint()), created: unknownTime}
		f.max = f.min + ltx.TXID(d.uvarint())
		size := d.uvarint()
		f.size = int64(size & math.MaxInt64)
		if dt := d.varint(); dt != unknownTime {
			f.created = created + dt
			created = f.created
			if created > maxTime || created < -maxTime {
				d.fail()
			}
		}
		txid = f.max
		ordered := len(l.files) == 0 || compareFiles(l.files[len(l.files)-1], f) < 0
		if d.bad || !(key{0, f.min, f.max}).valid() || size > math.MaxInt64 || !ordered {
			d.fail()
			return
		}
		l.files = append(l.files, f)
		l.max = max(l.max, f.max)
	}
}

func (d *decoder) cuts() []ltx.TXID {
	var cuts []ltx.TXID
	for range d.count(1) {
		txid := ltx.TXID(d.uvarint())
		if d.bad || len(cuts) > 0 && cuts[len(cuts)-1] >= txid {
			d.fail()
			return nil
		}
		cuts = append(cuts, txid)
	}
	return cuts
}

// strays reads the strays, none of which may be a file of v.
func (d *decoder) strays(v *Inventory) []key {
	var strays []key
	for range d.count(3) {
		if len(d.b) == 0 {
			d.fail()
			return nil
		}
		k := key{level: int(d.b[0])}
		d.b = d.b[1:]
		k.min = ltx.TXID(d.uvarint())
		k.max = k.min + ltx.TXID(d.uvarint())
		ordered := len(strays) == 0 || compareKeys(strays[len(strays)-1], k) < 0
		if d.bad || !k.valid() || !ordered || v.levels[k.level].has(k.min, k.max) {
			d.fail()
			return nil
		}
		strays = append(strays, k)
	}
	return strays
}

func (d *decoder) marks() []mark {
	var marks []mark
	var m mark
	for range d.count(2) {
		next := mark{m.at + d.varint(), m.txid + ltx.TXID(d.uvarint())}
		if d.bad || next.at > maxTime || next.at < -maxTime || len(marks) > 0 && next.at < m.at || next.txid <= m.txid {
			d.fail()
			return nil
		}
		m = next
		marks = append(marks, m)
	}
	return marks
}
