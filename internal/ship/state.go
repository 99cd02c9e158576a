package ship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// State is what the shipper knows of one database between steps. It is a plain value of
// about 190 bytes and holds no resource. The zero value is that of a database of which
// nothing was shipped.
type State struct {
	TXID     ltx.TXID // last one acknowledged by the replica
	PageSize uint32   // of the database at TXID
	Commit   uint32   // pages of the database at TXID
	Ino      uint64   // of the database file that was shipped

	// Origin says who wrote the file that ends at TXID, and what is in it: the number
	// alone does not distinguish our history from another writer's.
	Origin Origin

	// The generation of the WAL, and the position in it up to which it was shipped. An
	// Offset of 0 means that no generation is known.
	Salt1, Salt2 uint32
	Offset       int64
	Sum          wal.Sum
	// TxnStart is where the last shipped transaction starts. Published reports whether
	// that transaction is known to be visible to readers; then TxnStart is not needed. As
	// long as it is not, the transaction may be a ghost: its writer died before it was
	// published, and the next writer overwrites it.
	TxnStart  wal.Pos
	Published bool

	// Slot is what stood at Offset, where the header of the next frame goes, when
	// everything before it was shipped. It has SlotLen bytes: fewer than a header if the
	// file ended there. Rule R2 depends on it.
	Slot    [wal.FrameHeaderSize]byte
	SlotLen uint8

	// Fingerprint is the fingerprint of the database file, if the file alone was all of the
	// database at TXID. Rule R3 depends on it. Zero if it is not known.
	Fingerprint fsid.Fingerprint
}

// Origin identifies an LTX file by its header and trailer. The zero value stands for no
// file.
type Origin struct {
	Writer uint64       // the NodeID in its header: the node in the upper 32 bits, the session in the lower
	Sum    ltx.Checksum // of the whole file
}

// Node is the state directory that wrote the file.
func (o Origin) Node() uint32 { return uint32(o.Writer >> 32) }

// Session is the run of the node that wrote the file.
func (o Origin) Session() uint32 { return uint32(o.Writer) }

func (o Origin) String() string { return fmt.Sprintf("%08x/%08x", o.Node(), o.Session()) }

const (
	stateVersion = 3
	oldVersion   = 2 // without an Origin
	originSize   = 16
	stateSize    = 1 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + 17 + wal.FrameHeaderSize + 1 + 32 + originSize + 4
)

// ErrBadState is returned when bytes are not an encoded State. The state must then be found
// out from the replica, or by a resync.
var ErrBadState = errors.New("ship: unknown state format")

// AppendBinary encodes the state with a version and a checksum.
func (s State) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, stateVersion)
	b = le.AppendUint64(b, uint64(s.TXID))
	b = le.AppendUint32(b, s.PageSize)
	b = le.AppendUint32(b, s.Commit)
	b = le.AppendUint64(b, s.Ino)
	b = le.AppendUint32(b, s.Salt1)
	b = le.AppendUint32(b, s.Salt2)
	b = le.AppendUint64(b, uint64(s.Offset))
	b = le.AppendUint32(b, s.Sum.S1)
	b = le.AppendUint32(b, s.Sum.S2)
	b = le.AppendUint64(b, uint64(s.TxnStart.Offset))
	b = le.AppendUint32(b, s.TxnStart.Sum.S1)
	b = le.AppendUint32(b, s.TxnStart.Sum.S2)
	published := byte(0)
	if s.Published {
		published = 1
	}
	b = append(b, published)
	b = append(b, s.Slot[:]...)
	b = append(b, s.SlotLen)
	b = le.AppendUint64(b, s.Fingerprint.Ino)
	b = le.AppendUint64(b, uint64(s.Fingerprint.Size))
	b = le.AppendUint64(b, uint64(s.Fingerprint.Mtime))
	b = le.AppendUint64(b, uint64(s.Fingerprint.Ctime))
	b = le.AppendUint64(b, s.Origin.Writer)
	b = le.AppendUint64(b, uint64(s.Origin.Sum))
	return le.AppendUint32(b, crc32.ChecksumIEEE(b[start:])), nil
}

// UnmarshalBinary decodes what AppendBinary wrote, in this version or the one before.
func (s *State) UnmarshalBinary(b []byte) error {
	le := binary.LittleEndian
	const slot = 66
	want := stateSize
	if len(b) > 0 && b[0] == oldVersion {
		want -= originSize
	}
	if len(b) != want || b[0] != stateVersion && b[0] != oldVersion ||
		crc32.ChecksumIEEE(b[:want-4]) != le.Uint32(b[want-4:]) ||
		b[slot-1] > 1 || b[slot+wal.FrameHeaderSize] > wal.FrameHeaderSize {
		return ErrBadState
	}
	*s = State{
		TXID: ltx.TXID(le.Uint64(b[1:])), PageSize: le.Uint32(b[9:]), Commit: le.Uint32(b[13:]),
		Ino:   le.Uint64(b[17:]),
		Salt1: le.Uint32(b[25:]), Salt2: le.Uint32(b[29:]),
		Offset: int64(le.Uint64(b[33:])),
		Sum:    wal.Sum{S1: le.Uint32(b[41:]), S2: le.Uint32(b[45:])},
		TxnStart: wal.Pos{Offset: int64(le.Uint64(b[49:])),
			Sum: wal.Sum{S1: le.Uint32(b[57:]), S2: le.Uint32(b[61:])}},
		Published: b[65] == 1,
	}
	copy(s.Slot[:], b[slot:])
	b = b[slot+wal.FrameHeaderSize:]
	s.SlotLen = b[0]
	s.Fingerprint = fsid.Fingerprint{
		Ino: le.Uint64(b[1:]), Size: int64(le.Uint64(b[9:])),
		Mtime: int64(le.Uint64(b[17:])), Ctime: int64(le.Uint64(b[25:])),
	}
	if want == stateSize {
		s.Origin = Origin{Writer: le.Uint64(b[33:]), Sum: ltx.Checksum(le.Uint64(b[41:]))}
	}
	return nil
}

// moveTo moves the state's WAL position to p. The last transaction before p starts at
// txnStart. If SQLite is known to have published it, txnStart is p.
func (s *State) moveTo(h wal.Header, p, txnStart wal.Pos, slot []byte) {
	s.Salt1, s.Salt2 = h.Salt1, h.Salt2
	s.Offset, s.Sum = p.Offset, p.Sum
	s.TxnStart, s.Published = txnStart, txnStart == p
	s.Slot = [wal.FrameHeaderSize]byte{}
	s.SlotLen = uint8(copy(s.Slot[:], slot))
}

// noWAL forgets the WAL position.
func (s *State) noWAL() { s.moveTo(wal.Header{}, wal.Pos{}, wal.Pos{}, nil) }

// pos returns the state's position in its generation.
func (s *State) pos() wal.Pos { return wal.Pos{Offset: s.Offset, Sum: s.Sum} }
