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

// State is what the shipper knows of one database between steps. It is a plain
// value of about 190 bytes that holds no resource. The zero value is a database
// of which nothing was shipped.
type State struct {
	TXID     ltx.TXID // last one acknowledged by the replica
	PageSize uint32   // of the database at TXID
	Commit   uint32   // pages of the database at TXID
	Ino      uint64   // of the database file that was shipped

	// Origin is who wrote the file that ends at TXID, and what is in it: the number
	// alone does not tell our history from another's.
	Origin Origin

	// The WAL generation and the place in it up to which it was shipped. An
	// Offset of 0 means that no generation is known.
	Salt1, Salt2 uint32
	Offset       int64
	Sum          wal.Sum
	// Back is where the last shipped transaction begins, for as long as it is not
	// Known that SQLite itself has it. One that stands in the file may be a ghost:
	// its writer died before readers could see it, and the next one writes over it.
	Back  wal.Pos
	Known bool

	// Slot is what stood in the file at Offset, where the next frame's header
	// goes, when it was shipped up to there: SlotLen bytes, fewer than a header
	// if the file ended. It is what rule R2 rests on.
	Slot    [wal.FrameHeaderSize]byte
	SlotLen uint8

	// Print is the database file's fingerprint, if the file alone was all of
	// the database at TXID: what rule R3 rests on. Zero if it is not known.
	Print fsid.Fingerprint
}

// Origin identifies an LTX file by its header and trailer. The zero value is that
// of no file.
type Origin struct {
	Writer uint64       // its header's NodeID: the node above, the session below
	Sum    ltx.Checksum // of the whole file
}

// Node and Session are the two halves of the writer.
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

// ErrBadState is returned when bytes are no State. It costs a look at the
// replica, or a resync.
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
	b = le.AppendUint64(b, uint64(s.Back.Offset))
	b = le.AppendUint32(b, s.Back.Sum.S1)
	b = le.AppendUint32(b, s.Back.Sum.S2)
	known := byte(0)
	if s.Known {
		known = 1
	}
	b = append(b, known)
	b = append(b, s.Slot[:]...)
	b = append(b, s.SlotLen)
	b = le.AppendUint64(b, s.Print.Ino)
	b = le.AppendUint64(b, uint64(s.Print.Size))
	b = le.AppendUint64(b, uint64(s.Print.Mtime))
	b = le.AppendUint64(b, uint64(s.Print.Ctime))
	b = le.AppendUint64(b, s.Origin.Writer)
	b = le.AppendUint64(b, uint64(s.Origin.Sum))
	return le.AppendUint32(b, crc32.ChecksumIEEE(b[start:])), nil
}

// UnmarshalBinary decodes what AppendBinary wrote, now or in the version before.
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
		Back: wal.Pos{Offset: int64(le.Uint64(b[49:])),
			Sum: wal.Sum{S1: le.Uint32(b[57:]), S2: le.Uint32(b[61:])}},
		Known: b[65] == 1,
	}
	copy(s.Slot[:], b[slot:])
	b = b[slot+wal.FrameHeaderSize:]
	s.SlotLen = b[0]
	s.Print = fsid.Fingerprint{
		Ino: le.Uint64(b[1:]), Size: int64(le.Uint64(b[9:])),
		Mtime: int64(le.Uint64(b[17:])), Ctime: int64(le.Uint64(b[25:])),
	}
	if want == stateSize {
		s.Origin = Origin{Writer: le.Uint64(b[33:]), Sum: ltx.Checksum(le.Uint64(b[41:]))}
	}
	return nil
}

// at moves the state's WAL position to one whose last transaction begins at
// back; that is p itself where SQLite is known to have all up to there.
func (s *State) at(h wal.Header, p, back wal.Pos, slot []byte) {
	s.Salt1, s.Salt2 = h.Salt1, h.Salt2
	s.Offset, s.Sum = p.Offset, p.Sum
	s.Back, s.Known = back, back == p
	s.Slot = [wal.FrameHeaderSize]byte{}
	s.SlotLen = uint8(copy(s.Slot[:], slot))
}

// noWAL forgets the WAL position.
func (s *State) noWAL() { s.at(wal.Header{}, wal.Pos{}, wal.Pos{}, nil) }

// pos is the state's place in its generation.
func (s *State) pos() wal.Pos { return wal.Pos{Offset: s.Offset, Sum: s.Sum} }
