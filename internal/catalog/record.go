package catalog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/multidb-go/multidb/internal/varint"
)

// Record is what is known of one database. State and Files mean something to their
// owner only; an empty one is loaded as nil.
type Record struct {
	ID        string // unique, not empty
	Path      string // of the database file
	Vars      []Var  // captured values
	RelPath   string // Path relative to the root of its discoverer
	Dev, Ino  uint64 // of the file, 0 if unknown
	LastWrite int64  // Unix time in ns, 0 if unknown
	TXID      uint64 // last one the replica acknowledged, 0 if none
	State     []byte // of the shipper
	Files     []byte // what the replica holds
	Prefix    string // where the replica holds it
	Flags     uint32
}

// Var is one named value that was captured from a path.
type Var struct {
	Name, Value string
}

// clone returns a copy that shares no memory with r's byte slices. It has no Vars and
// no RelPath, which the queue keeps packed.
func (r Record) clone() Record {
	b := make([]byte, 0, len(r.State)+len(r.Files))
	own := func(p []byte) []byte {
		n := len(b)
		b = append(b, p...)
		return b[n:len(b):len(b)]
	}
	r.State, r.Files = own(r.State), own(r.Files)
	r.Vars, r.RelPath = nil, ""
	return r
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum guards against a record that the disk or somebody with an SQL shell has
// changed: SQLite has no checksums of its own, and a wrong position would ship
// changes onto the wrong state. vars is what packVars returned. scratch is reused,
// and returned as it has grown.
func (r *Record) sum(vars, scratch []byte) (uint32, []byte) {
	b := scratch[:0]
	for _, s := range []string{r.ID, r.Path, r.Prefix} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range [][]byte{vars, r.State, r.Files} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, n := range []uint64{r.Dev, r.Ino, uint64(r.LastWrite), r.TXID, uint64(r.Flags)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return crc32.Checksum(b, castagnoli), b
}

var errVars = errors.New("unknown format of a database's variables")

// packVars encodes Vars and RelPath: texts with their lengths before them.
func (r *Record) packVars() []byte {
	b := binary.AppendUvarint(nil, uint64(len(r.Vars)))
	put := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, v := range r.Vars {
		put(v.Name)
		put(v.Value)
	}
	put(r.RelPath)
	return b
}

// unpackVars decodes what packVars returned. It keeps nothing of b.
func (r *Record) unpackVars(b []byte) error {
	in := varint.Reader{B: b}
	text := func() string { return string(in.Take(in.Count(1))) }
	r.Vars = nil // the caller of Load may have kept the last record's
	for range in.Count(2) {
		r.Vars = append(r.Vars, Var{Name: text(), Value: text()})
	}
	r.RelPath = text()
	if in.Bad || len(in.B) != 0 {
		return errVars
	}
	return nil
}
