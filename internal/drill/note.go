package drill

import (
	"encoding/binary"
	"strings"

	"github.com/multidb-go/multidb/internal/varint"
	"github.com/superfly/ltx"
)

// Kind is that of the catalog's notes.
const Kind = "proved"

// proof is what is remembered of a database: moments in Unix ms, 0 for never.
type proof struct {
	proved int64 // the last drill that succeeded
	tried  int64 // the last drill that told
	since  int64 // since when it is known; only of one that had no drill
	txid   ltx.TXID
	err    string // why the last drill failed
}

// mostText bounds what is kept of an error.
const mostText = 500

const noteVersion = 1

func (p proof) encode() []byte {
	b := []byte{noteVersion}
	for _, n := range []int64{p.proved, p.tried, p.since} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(p.txid))
	return append(b, p.err...)
}

// decode returns what encode encoded; false: it is of another version, or damaged.
func decode(b []byte) (p proof, ok bool) {
	if len(b) == 0 || b[0] != noteVersion {
		return p, false
	}
	in := varint.Reader{B: b[1:]}
	p.proved, p.tried, p.since, p.txid = in.Varint(), in.Varint(), in.Varint(), ltx.TXID(in.Uvarint())
	p.err = string(in.B)
	return p, !in.Bad && p.proved <= p.tried
}

// text is an error as it is kept: one line of valid text.
func text(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > mostText {
		s = s[:mostText]
	}
	return strings.ToValidUTF8(s, "?")
}
