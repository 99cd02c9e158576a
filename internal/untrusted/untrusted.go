// Package untrusted bounds what is read of a replica. Whoever can write to the
// bucket or the directory, and every flipped bit, decides what stands there: it
// must cost one database an error, never the process its memory.
package untrusted

import (
	"errors"
	"fmt"
	"io"
)

// ErrDamaged is returned when what the replica holds is nothing that multidb or
// litestream wrote.
var ErrDamaged = errors.New("the replica holds what no backup has")

const (
	// MaxMetadata bounds a metadata.json, in bytes. One has a few hundred.
	MaxMetadata = 1 << 20
	// MaxFiles bounds the files of one database that are kept of a listing: about
	// 130 bytes each, and 12 days of one file a second that nothing compacted.
	MaxFiles = 1 << 20
)

// ReadMetadata reads a metadata.json to its end. The error wraps ErrDamaged if
// it has more than MaxMetadata bytes, of which no more than that are read.
func ReadMetadata(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxMetadata+1))
	if err == nil {
		err = CheckMetadata(data)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// CheckMetadata refuses a metadata.json that ReadMetadata would not have read.
func CheckMetadata(data []byte) error {
	if len(data) > MaxMetadata {
		return fmt.Errorf("%w: metadata.json has more than %d bytes; delete it: restores do without", ErrDamaged, MaxMetadata)
	}
	return nil
}

// CheckFiles refuses a listing of n files of one database where most are the most:
// MaxFiles, but in tests.
func CheckFiles(n, most int) error {
	if n > most {
		return fmt.Errorf("%w: more than %d files of one database; delete what is not its own, or what is older than a snapshot", ErrDamaged, most)
	}
	return nil
}
