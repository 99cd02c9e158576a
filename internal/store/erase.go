package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// Why an erasure has left something, beside the store's own errors.
var (
	// ErrOtherPrefix: it looks like the prefix of another database, which may lie below
	// the one that was erased ("a/b" below "a").
	ErrOtherPrefix = errors.New("the prefix of another database lies here")
	// ErrVersionsUnknown: the store cannot say which older versions it keeps, or these
	// credentials may not ask.
	ErrVersionsUnknown = errors.New("older versions of the deleted objects may be left")
	// ErrLogVersions: the objects of a fleet log are deleted in time, but no version of them.
	ErrLogVersions = errors.New("versions of the fleet log's objects may be left that have bytes of it: have a lifecycle rule expire old versions below the log's directory")
	// ErrKept: metadata.json stays as long as an object beside it does.
	ErrKept = errors.New("kept, as it tells whose the objects are that are left beside it")
)

// ErasedPrefix is what an erasure did: multidb.ErasedPrefix.
type ErasedPrefix struct {
	// Objects is how many objects were deleted, and Versions how many older versions and
	// delete markers beside them.
	Objects, Versions int64
	Bytes             int64 // of both
	// Versioned says that the storage keeps older versions, or that this cannot be told:
	// then other objects that had something of the database have versions of their own.
	Versioned bool
	// Left is what could not be deleted, each with the reason.
	Left []LeftObject
}

// LeftObject is what an erasure could not delete: multidb.LeftObject.
type LeftObject struct {
	Name    string // as the store names it: a key of the bucket, or a path; of a directory with a slash at its end
	Version string // "": the object as it is, or no version of its own
	Err     error  // why
}

// Eraser is an optional interface of a client: multidb.PrefixEraser.
type Eraser interface {
	ErasePrefix(ctx context.Context) (ErasedPrefix, error)
}

// Sizer is an optional interface of a client: multidb.PrefixSizer.
type Sizer interface {
	PrefixSize(ctx context.Context) (objects, bytes int64, err error)
}

// Copier is an optional interface of a client: multidb.LTXCopier.
type Copier interface {
	CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error
}

// metadataName is the file beside the levels that says whose prefix it is.
const metadataName = "metadata.json"

// Erase erases a prefix. A client that is no Eraser deletes what it knows of (DeleteAll),
// and Left says that something else may be there.
func Erase(ctx context.Context, client litestream.ReplicaClient) (ErasedPrefix, error) {
	if e, ok := client.(Eraser); ok {
		return e.ErasePrefix(ctx)
	}
	files, err := Files(ctx, client, false)
	if err != nil {
		return ErasedPrefix{}, err
	}
	var e ErasedPrefix
	if err := client.DeleteAll(ctx); err != nil {
		return e, err
	}
	left, err := Files(ctx, client, false)
	if err != nil {
		return e, err
	}
	for _, f := range files {
		e.Objects, e.Bytes = e.Objects+1, e.Bytes+f.Size
	}
	for _, f := range left {
		e.Objects, e.Bytes = e.Objects-1, e.Bytes-f.Size
		e.Left = append(e.Left, LeftObject{Name: FileName(f), Err: errors.New("it is there again, or still: erase it once more")})
	}
	e.Versioned = true
	e.Left = append(e.Left, LeftObject{Err: fmt.Errorf("%w, and so may other objects: this kind of store (%s) cannot list them", ErrVersionsUnknown, client.Type())})
	return e, nil
}

// Size counts the objects of a prefix, and their bytes, by listing them: all objects that
// an erasure would delete, but for older versions. Of a client that is no Sizer it counts
// the LTX files and metadata.json.
func Size(ctx context.Context, client litestream.ReplicaClient) (objects, bytes int64, err error) {
	if s, ok := client.(Sizer); ok {
		return s.PrefixSize(ctx)
	}
	files, err := Files(ctx, client, false)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range files {
		objects, bytes = objects+1, bytes+f.Size
	}
	m, ok := client.(interface {
		ReadMetadata(ctx context.Context) ([]byte, error)
	})
	if !ok {
		return objects, bytes, nil
	}
	b, err := m.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return objects, bytes, nil
	}
	return objects + 1, bytes + int64(len(b)), err
}

// FileName is the name of an LTX file below its prefix, as S3 has it.
func FileName(f *ltx.FileInfo) string {
	return fmt.Sprintf("%04x/%s", f.Level, ltx.FormatFilename(f.MinTXID, f.MaxTXID))
}

// Others finds the prefixes of other databases that lie below one, from the names of all
// objects below it. The zero value has found none.
type Others struct{ dirs map[string]struct{} }

// See takes the name of an object, relative to the prefix.
func (o *Others) See(name string) {
	dir, ok := databaseDir(name)
	if !ok || dir == "" {
		return
	}
	if o.dirs == nil {
		o.dirs = map[string]struct{}{}
	}
	o.dirs[dir] = struct{}{}
}

// Has reports whether an object is in one of them. What is this prefix's own is not, though
// another database be called "ltx" or "0000".
func (o *Others) Has(name string) bool {
	if len(o.dirs) == 0 {
		return false
	}
	// A level's directory may have what is no LTX file, such as one that was being written.
	level, inLtx := strings.CutPrefix(path.Dir(name), "ltx/")
	if dir, ok := databaseDir(name); ok && dir == "" || isLevel(level) && (len(level) == 4) != inLtx {
		return false
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if _, ok := o.dirs[name[:i]]; ok {
			return true
		}
	}
	return false
}

// Left names them, below the name of the prefix that is erased.
func (o *Others) Left(prefix string) (left []LeftObject) {
	for dir := range o.dirs {
		left = append(left, LeftObject{Name: prefix + dir + "/", Err: ErrOtherPrefix})
	}
	slices.SortFunc(left, func(a, b LeftObject) int { return strings.Compare(a.Name, b.Name) })
	return left
}

// databaseDir is the prefix, relative to this one, of the database whose object has this
// name: an LTX file of litestream's layout on S3 or on disk, or metadata.json. "" is this
// prefix; false: nothing says whose it is.
func databaseDir(name string) (string, bool) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if base == metadataName {
		return dir, true
	}
	level := path.Base(dir)
	if !isLevel(level) {
		return "", false
	} else if _, _, err := ltx.ParseFilename(base); err != nil {
		return "", false
	}
	if dir = path.Dir(dir); path.Base(dir) == "ltx" && len(level) < 4 { // <prefix>/ltx/0/… on disk
		dir = path.Dir(dir)
	}
	return strings.TrimPrefix(dir, "."), true
}

// isLevel reports whether a directory's name is that of a level: four digits on S3, fewer on
// disk, below "ltx".
func isLevel(name string) bool {
	return len(name) > 0 && len(name) <= 4 && strings.Trim(name, "0123456789abcdef") == ""
}

// CopyFile copies an LTX file from one prefix to another, under the same name: on the
// server if the store can, else through this process. An existing file is left alone:
// the same bytes count as copied, as a copy goes on after a crash, and others are an
// error that wraps fs.ErrExist.
func CopyFile(ctx context.Context, from, to litestream.ReplicaClient, info *ltx.FileInfo) error {
	if c, ok := to.(Copier); ok {
		if err := c.CopyLTXFile(ctx, from, info); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return StreamFile(ctx, from, to, info)
}

// StreamFile is CopyFile through this process.
func StreamFile(ctx context.Context, from, to litestream.ReplicaClient, info *ltx.FileInfo) (err error) {
	r, err := from.OpenLTXFile(ctx, info.Level, info.MinTXID, info.MaxTXID, 0, 0)
	if err != nil {
		return err
	}
	_, err = to.WriteLTXFile(ctx, info.Level, info.MinTXID, info.MaxTXID, Exactly(r, info.Size))
	err = errors.Join(err, r.Close())
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	same, sameErr := SameFile(ctx, from, to, info)
	switch {
	case sameErr != nil:
		return errors.Join(err, sameErr)
	case same:
		return nil
	}
	return err
}

// SameFile reports whether two prefixes have the same bytes under the name of an LTX file.
func SameFile(ctx context.Context, a, b litestream.ReplicaClient, info *ltx.FileInfo) (same bool, err error) {
	ra, err := a.OpenLTXFile(ctx, info.Level, info.MinTXID, info.MaxTXID, 0, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = ra.Close() }() // only read from
	rb, err := b.OpenLTXFile(ctx, info.Level, info.MinTXID, info.MaxTXID, 0, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = rb.Close() }()
	return sameBytes(ra, rb)
}

// sameBytes compares two readers to their ends.
func sameBytes(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		endA, endB := errA == io.EOF || errA == io.ErrUnexpectedEOF, errB == io.EOF || errB == io.ErrUnexpectedEOF
		switch {
		case errA != nil && !endA:
			return false, errA
		case errB != nil && !endB:
			return false, errB
		case string(bufA[:n]) != string(bufB[:m]):
			return false, nil
		case endA || endB:
			return endA && endB, nil
		}
	}
}
