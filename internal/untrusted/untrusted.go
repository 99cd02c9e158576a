// Package untrusted bounds what is read from a replica. Anybody who can write to the bucket
// or the directory may have put there what he likes, and bits may have flipped. That may
// cause an error for one database, but must never exhaust the memory of the process.
package untrusted

import (
	"errors"
	"fmt"
	"io"
)

// ErrDamaged is returned when the replica holds something that neither multidb nor
// litestream can have written.
var ErrDamaged = errors.New("the replica holds something damaged")

const (
	// MaxMetadata is the largest size of a metadata.json, in bytes. Usually it has a few
	// hundred.
	MaxMetadata = 1 << 20
	// MaxFiles is the largest number of files of one database in a listing. Each takes
	// about 130 bytes of memory. One file a second, never compacted, needs 12 days to get
	// there.
	MaxFiles = 1 << 20
)

// ReadMetadata reads a metadata.json to its end. If it has more than MaxMetadata bytes, it
// stops there and returns an error that wraps ErrDamaged.
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

// CheckMetadata returns an error that wraps ErrDamaged for a metadata.json that is too
// large for ReadMetadata.
func CheckMetadata(data []byte) error {
	if len(data) > MaxMetadata {
		return fmt.Errorf("%w: metadata.json has more than %d bytes; delete it: restores do without", ErrDamaged, MaxMetadata)
	}
	return nil
}

// CheckFiles returns an error that wraps ErrDamaged for a listing of more than most files of
// one database. Tests pass less than MaxFiles.
func CheckFiles(n, most int) error {
	if n > most {
		return fmt.Errorf("%w: more than %d files of one database; delete what is not its own, or what is older than a snapshot", ErrDamaged, most)
	}
	return nil
}
