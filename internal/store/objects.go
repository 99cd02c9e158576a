package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// ErrNoConditionalWrites is returned by a store that would let an object be created twice.
var ErrNoConditionalWrites = errors.New("store has no conditional writes")

// Objects is a directory of plain objects: multidb.ObjectStore, which documents it.
type Objects interface {
	Create(ctx context.Context, name string, data []byte) error
	CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error
	Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error]
	Delete(ctx context.Context, names ...string) error
}

// ObjectInfo is one object in a listing: multidb.ObjectInfo.
type ObjectInfo struct {
	Name    string
	Size    int64
	Created time.Time
}

// CheckObjectName refuses a name that some store could not keep, list or delete, or
// that could be taken for a file of its own: the marker of a replica, the object by
// which S3 is tried out, a temporary file. The error wraps fs.ErrInvalid. A listing
// leaves out what has such a name.
func CheckObjectName(name string) error {
	if err := checkPath("an object", name); err != nil {
		return err
	}
	for element := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(element, ".multidb-") || strings.HasSuffix(element, ".tmp") {
			return fmt.Errorf("%w: object name %q: names that begin with .multidb- or end in .tmp are for the store's own files", fs.ErrInvalid, name)
		}
	}
	return nil
}

// CheckObjectDir refuses a directory that objects could not be kept in. The error
// wraps fs.ErrInvalid.
func CheckObjectDir(dir string) error { return checkPath("a directory of objects", dir) }

// CheckObjectRange refuses a size that is none. The error wraps fs.ErrInvalid.
func CheckObjectRange(name string, size int64) error {
	if size < 0 {
		return fmt.Errorf("%w: read %d bytes of %q: write 0 for all up to the end", fs.ErrInvalid, size, name)
	}
	return nil
}

// CheckObjectSize refuses a size that no object has. The error wraps fs.ErrInvalid.
func CheckObjectSize(name string, size int64) error {
	if size < 0 {
		return fmt.Errorf("%w: create %q of %d bytes", fs.ErrInvalid, name, size)
	}
	return nil
}

// Exactly reads the next size bytes of r. If there are fewer, the error wraps
// io.ErrUnexpectedEOF.
func Exactly(r io.Reader, size int64) io.Reader { return &exactly{r, size, size} }

type exactly struct {
	r          io.Reader
	left, size int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = fmt.Errorf("the source has %d bytes of %d: %w", e.size-e.left, e.size, io.ErrUnexpectedEOF)
	}
	return n, err
}

// CheckObjectText refuses the prefix or the start of a listing if no name can have it
// and S3 could not carry it. The error wraps fs.ErrInvalid.
func CheckObjectText(texts ...string) error {
	for _, s := range texts {
		if !carried(s) {
			return fmt.Errorf("%w: list objects: %q has what no name can have", fs.ErrInvalid, s)
		}
	}
	return nil
}

func checkPath(what, path string) error {
	if !fs.ValidPath(path) || path == "." || !carried(path) {
		return fmt.Errorf("%w: %q is no name of %s: write a relative path with slashes, without control characters", fs.ErrInvalid, path, what)
	}
	return nil
}

// carried reports whether s is text that listings in XML can carry.
func carried(s string) bool {
	return strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7F || r == 0xFFFE || r == 0xFFFF
	})
}
