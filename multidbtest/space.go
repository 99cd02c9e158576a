package multidbtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/superfly/ltx"
)

// space is what one prefix holds. Guarded by Replica.mu.
type space struct {
	files    map[fileKey]file
	metadata []byte // nil if there is none
}

type fileKey struct {
	level    int
	min, max ltx.TXID
}

// file is one stored file; data is never changed in place.
type file struct {
	data      []byte
	createdAt time.Time
}

func (k fileKey) info(f file) *ltx.FileInfo {
	return &ltx.FileInfo{Level: k.level, MinTXID: k.min, MaxTXID: k.max, Size: int64(len(f.data)), CreatedAt: f.createdAt}
}

func (k fileKey) String() string {
	return fmt.Sprintf("level %d %s", k.level, ltx.FormatFilename(k.min, k.max))
}

// ensureSpaceLocked returns the prefix's space and makes it if need be.
func (r *Replica) ensureSpaceLocked(prefix string) *space {
	s := r.spaces[prefix]
	if s == nil {
		s = &space{files: make(map[fileKey]file)}
		r.spaces[prefix] = s
	}
	return s
}

// list returns the files that keep accepts, by level, then by TXID.
func (s *space) list(keep func(fileKey) bool) []*ltx.FileInfo {
	if s == nil {
		return nil
	}
	var infos []*ltx.FileInfo
	for k, f := range s.files {
		if keep(k) {
			infos = append(infos, k.info(f))
		}
	}
	slices.SortFunc(infos, compareInfos)
	return infos
}

// The helpers below read and change the store without its clients: no fault hits
// them, and they are neither logged nor counted.

// Prefixes returns the prefixes that hold anything, sorted.
func (r *Replica) Prefixes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.spaces))
}

// Files returns every LTX file of the prefix, by level, then by TXID.
func (r *Replica) Files(prefix string) []*ltx.FileInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spaces[prefix].list(func(fileKey) bool { return true })
}

// ReadFile returns the bytes of a file, or an error that wraps fs.ErrNotExist.
func (r *Replica) ReadFile(prefix string, level int, minTXID, maxTXID ltx.TXID) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, f, err := r.fileLocked("read", prefix, fileKey{level, minTXID, maxTXID})
	return bytes.Clone(f.data), err
}

// Metadata returns the prefix's metadata, nil if it has none.
func (r *Replica) Metadata(prefix string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.spaces[prefix]
	if s == nil {
		return nil
	}
	return bytes.Clone(s.metadata)
}

// Corrupt replaces the bytes of a file by what change makes of a copy of them;
// nil flips one bit in the middle. A missing file is an error that wraps
// fs.ErrNotExist.
func (r *Replica) Corrupt(prefix string, level int, minTXID, maxTXID ltx.TXID, change func([]byte) []byte) error {
	if change == nil {
		change = flipBit
	}
	data, err := r.ReadFile(prefix, level, minTXID, maxTXID)
	if err != nil {
		return err
	}
	data = change(data) // without the lock: it may use the replica

	key := fileKey{level, minTXID, maxTXID}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, f, err := r.fileLocked("corrupt", prefix, key)
	if err != nil {
		return err
	}
	f.data = data
	s.files[key] = f
	return nil
}

func flipBit(b []byte) []byte {
	if len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	return b
}

// Delete removes a file. A missing one is an error that wraps fs.ErrNotExist.
func (r *Replica) Delete(prefix string, level int, minTXID, maxTXID ltx.TXID) error {
	key := fileKey{level, minTXID, maxTXID}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, _, err := r.fileLocked("delete", prefix, key)
	if err != nil {
		return err
	}
	delete(s.files, key)
	return nil
}

func (r *Replica) fileLocked(op, prefix string, key fileKey) (*space, file, error) {
	if s := r.spaces[prefix]; s != nil {
		if f, ok := s.files[key]; ok {
			return s, f, nil
		}
	}
	return nil, file{}, pathError(op, prefix, key, fs.ErrNotExist)
}

func pathError(op, prefix string, key fileKey, err error) error {
	return &fs.PathError{Op: op, Path: prefix + " " + key.String(), Err: err}
}
