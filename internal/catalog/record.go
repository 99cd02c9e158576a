package catalog

import (
	"encoding/binary"
	"hash/crc32"
)

// Record is what is known of one database. Vars, State and Files mean something
// to their owner only; an empty one is loaded as nil.
type Record struct {
	ID        string // unique, not empty
	Path      string // of the database file
	Vars      []byte // captured values
	Dev, Ino  uint64 // of the file, 0 if unknown
	LastWrite int64  // Unix time in ns, 0 if unknown
	TXID      uint64 // last one the replica acknowledged, 0 if none
	State     []byte // of the shipper
	Files     []byte // what the replica holds
	Prefix    string // where the replica holds it
	Flags     uint32
}

// clone returns a copy that shares no memory with r's byte slices.
func (r Record) clone() Record {
	b := make([]byte, 0, len(r.Vars)+len(r.State)+len(r.Files))
	own := func(p []byte) []byte {
		n := len(b)
		b = append(b, p...)
		return b[n:len(b):len(b)]
	}
	r.Vars, r.State, r.Files = own(r.Vars), own(r.State), own(r.Files)
	return r
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum guards against a record that the disk or somebody with an SQL shell has
// changed: SQLite has no checksums of its own, and a wrong position would ship
// changes onto the wrong state. scratch is reused; the grown one is returned.
func (r *Record) sum(scratch []byte) (uint32, []byte) {
	b := scratch[:0]
	for _, s := range []string{r.ID, r.Path, r.Prefix} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range [][]byte{r.Vars, r.State, r.Files} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, n := range []uint64{r.Dev, r.Ino, uint64(r.LastWrite), r.TXID, uint64(r.Flags)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return crc32.Checksum(b, castagnoli), b
}
