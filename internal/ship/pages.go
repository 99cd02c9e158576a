package ship

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"github.com/superfly/ltx"
)

// Pages holds the hash of every page of one shipped state, in 8 bytes each. A resync that
// has them ships only the pages that differ. They describe the state that the replica has
// at TXID, and not the local file: they stay right for that TXID, however old they are, and
// are of no use for any other. Not safe for concurrent use.
type Pages struct {
	TXID     ltx.TXID
	PageSize uint32
	sums     []uint64 // of page 1, 2, …; the lock page's is 0
}

// Len is the number of pages.
func (p *Pages) Len() int { return len(p.sums) }

// sumPage returns the first quarter of a page's SHA-256. A resync does not ship a page that
// has the hash of the page at the replica. By accident that happens to a changed page once
// in 2^64 comparisons, and nobody can make a page with the hash of a given one. (Whoever
// chooses both pages finds such a pair in about 2^32 attempts, and damages only his own
// backup.)
func sumPage(data []byte) uint64 {
	h := sha256.Sum256(data)
	return binary.LittleEndian.Uint64(h[:])
}

// hash returns the hash of a page, and whether it is known.
func (p *Pages) hash(pgno uint32) (uint64, bool) {
	if p == nil || pgno == 0 || int(pgno) > len(p.sums) {
		return 0, false
	}
	return p.sums[pgno-1], true
}

// pageSum is the new hash of one page.
type pageSum struct {
	pgno uint32
	sum  uint64
}

// usable reports whether the hashes are those of a state.
func (p *Pages) usable(st State) bool {
	return p != nil && st.TXID != 0 && p.TXID == st.TXID && p.PageSize == st.PageSize && len(p.sums) == int(st.Commit)
}

// advance makes the hashes those of the next state.
func (p *Pages) advance(next State, changed []pageSum) {
	p.TXID = next.TXID
	switch n := int(next.Commit); {
	case n < len(p.sums):
		p.sums = p.sums[:n]
	case n > len(p.sums):
		p.sums = append(p.sums, make([]uint64, n-len(p.sums))...)
	}
	for _, c := range changed {
		p.sums[c.pgno-1] = c.sum
	}
}

const pagesMagic = "mdbpage1"

// AppendBinary encodes the hashes with a checksum.
func (p *Pages) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, pagesMagic...)
	b = le.AppendUint64(b, uint64(p.TXID))
	b = le.AppendUint32(b, p.PageSize)
	for _, s := range p.sums {
		b = le.AppendUint64(b, s)
	}
	return le.AppendUint32(b, crc32.ChecksumIEEE(b[start:])), nil
}

// UnmarshalBinary decodes what AppendBinary wrote. After an error the next resync has to
// ship all pages.
func (p *Pages) UnmarshalBinary(b []byte) error {
	const fixed = len(pagesMagic) + 8 + 4 + 4
	le := binary.LittleEndian
	if len(b) < fixed || (len(b)-fixed)%8 != 0 || string(b[:8]) != pagesMagic ||
		crc32.ChecksumIEEE(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return ErrBadState
	}
	*p = Pages{TXID: ltx.TXID(le.Uint64(b[8:])), PageSize: le.Uint32(b[16:])}
	b = b[20 : len(b)-4]
	p.sums = make([]uint64, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		p.sums = append(p.sums, le.Uint64(b))
	}
	return nil
}

// updatePages gives a database the hashes of the state that was just acknowledged, or none
// if they are not known.
func (s *Shipper) updatePages(db *DB, before State, d *delta) {
	switch {
	case int(d.next.Commit) > s.cfg.MaxPages:
		db.Pages = nil
	case d.all != nil:
		db.Pages = &Pages{TXID: d.next.TXID, PageSize: d.next.PageSize, sums: d.all}
	case db.Pages.usable(before):
		db.Pages.advance(d.next, d.changed)
	default:
		db.Pages = nil
	}
}
