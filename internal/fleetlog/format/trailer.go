package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"github.com/multidb-go/multidb/internal/untrusted"
)

const (
	// Suffix is how many bytes from the end of an object are asked for at first.
	Suffix = 64 << 10

	// MaxFooter and MaxObject are how many bytes a footer has, and an object with its
	// payload: more is not written, and not read. A large file may be larger.
	MaxFooter = 16 << 20
	MaxObject = 256 << 20

	version = 2 // the newest; all objects but some logs are of version 1
	magic   = "mdbfleet"
)

// The trailer is the last 48 bytes of every object. The last 12 stay what they are in
// every version to come, so that each can say of a newer one that it is newer.
//
//	 0  payload length                     8 bytes
//	 8  footer length                      4
//	12  CRC-32C of the payload             4
//	16  kind: 1 log object, 2 seal, 3 map  4
//	20  the first 16 bytes of the SHA-256 of the footer, the 20 bytes above, and the version
//	36  version                            4
//	40  "mdbfleet"                         8
const trailerSize = 48

// ErrNewer is returned for an object that a newer version of this format made.
var ErrNewer = errors.New("the fleet log was written by a newer multidb: upgrade this one")

// Sum identifies the content of an object: two objects with the same Sum are the same. It
// covers the author, a random number, so that no two processes make the same by chance.
type Sum [16]byte

// ID is the random number of one process life, which all that it writes carries.
type ID [16]byte

type kind uint32

const (
	kindLog  kind = 1
	kindSeal kind = 2
	kindMap  kind = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C that records have of their files.
func Checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// appendTrailer completes an object of which payload and footer are there.
func appendTrailer(object []byte, k kind, payload int) ([]byte, Sum, error) {
	return appendTrailerOf(object, k, payload, 1)
}

func appendTrailerOf(object []byte, k kind, payload int, version uint32) ([]byte, Sum, error) {
	footer := len(object) - payload
	if footer > MaxFooter || len(object)+trailerSize > MaxObject {
		return nil, Sum{}, fmt.Errorf("a fleet log object of %d bytes with a footer of %d is too large: at most %d and %d", len(object), footer, MaxObject, MaxFooter)
	}
	le := binary.LittleEndian
	var t [trailerSize]byte
	le.PutUint64(t[0:], uint64(payload))
	le.PutUint32(t[8:], uint32(footer))
	le.PutUint32(t[12:], Checksum(object[:payload]))
	le.PutUint32(t[16:], uint32(k))
	le.PutUint32(t[36:], version)
	copy(t[40:], magic)
	sum := sumOf(object[payload:], t[:])
	copy(t[20:], sum[:])
	return append(object, t[:]...), sum, nil
}

func sumOf(footer, trailer []byte) (s Sum) {
	h := sha256.New()
	_, _ = h.Write(footer) // a hash never fails
	_, _ = h.Write(trailer[:20])
	_, _ = h.Write(trailer[36:40])
	copy(s[:], h.Sum(nil))
	return s
}

// NewChecksum sums up a file that is not in memory, as Checksum does.
func NewChecksum() hash.Hash32 { return crc32.New(castagnoli) }

// frame is an object without the insides of its footer.
type frame struct {
	kind    kind
	version uint32
	payload int64
	crc     uint32
	footer  []byte // shares memory with what was given
	sum     Sum
}

// openFrame checks an object of which the last bytes are given. If they are too few, need
// is how many of the last bytes it takes.
func openFrame(end []byte, size int64) (f frame, need int64, err error) {
	switch {
	case size < trailerSize || size > MaxObject:
		return f, 0, damaged("an object of %d bytes", size)
	case int64(len(end)) > size:
		return f, 0, damaged("%d bytes of an object that has %d", len(end), size)
	case len(end) < trailerSize:
		return f, min(size, Suffix), nil
	}
	le := binary.LittleEndian
	t := end[len(end)-trailerSize:]
	if !bytes.Equal(t[40:], []byte(magic)) {
		return f, 0, damaged("an object that is none of a fleet log")
	}
	if v := le.Uint32(t[36:]); v > version {
		return f, 0, fmt.Errorf("%w (version %d, known is %d)", ErrNewer, v, version)
	} else if v == 0 {
		return f, 0, damaged("version 0")
	}
	payload, footer := le.Uint64(t[0:]), int64(le.Uint32(t[8:]))
	if payload > MaxObject || footer > MaxFooter || int64(payload)+footer+trailerSize != size {
		return f, 0, damaged("a payload of %d and a footer of %d bytes in an object of %d", payload, footer, size)
	}
	if need := footer + trailerSize; int64(len(end)) < need {
		return f, need, nil
	}
	f = frame{kind: kind(le.Uint32(t[16:])), version: le.Uint32(t[36:]), payload: int64(payload), crc: le.Uint32(t[12:]),
		footer: end[int64(len(end))-trailerSize-footer : len(end)-trailerSize], sum: Sum(t[20:36])}
	if sumOf(f.footer, t) != f.sum {
		return f, 0, damaged("a footer that does not match its checksum")
	} else if f.version > 1 && f.kind != kindLog {
		return f, 0, damaged("an object of kind %d and version %d", f.kind, f.version)
	}
	return f, 0, nil
}

// CheckPayload reads a whole object and compares its payload with the checksum of it.
func CheckPayload(object []byte) error {
	f, need, err := openFrame(object, int64(len(object)))
	switch {
	case err != nil:
		return err
	case need > 0:
		return damaged("an object that is cut off")
	case Checksum(object[:f.payload]) != f.crc:
		return damaged("a payload that does not match its checksum")
	}
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: in the fleet log %s", untrusted.ErrDamaged, fmt.Sprintf(format, args...))
}
