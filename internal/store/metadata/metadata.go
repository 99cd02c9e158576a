// Package metadata is metadata.json, the small object beside the levels of a prefix
// that says whose it is. What is read of it may be anybody's, and is bounded.
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// Name is how the object is called.
const Name = "metadata.json"

// Format is the version that is written. A newer one is refused.
const Format = 1

// Store is an optional interface of a replica client. ReadMetadata returns
// fs.ErrNotExist if there is none.
type Store interface {
	WriteMetadata(ctx context.Context, data []byte) error
	ReadMetadata(ctx context.Context) ([]byte, error)
}

// Metadata is what the object holds.
type Metadata struct {
	Format    int               `json:"format"`
	ID        string            `json:"id"`
	Vars      map[string]string `json:"vars,omitempty"`
	Path      string            `json:"path"` // of the database, on the machine that claimed the prefix
	CreatedAt time.Time         `json:"created_at"`

	// Who may use the database, when the prefix was claimed.
	Mode string `json:"mode,omitempty"` // octal
	UID  *int   `json:"uid,omitempty"`
	GID  *int   `json:"gid,omitempty"`
}

// Encode returns the object's bytes, in this Format.
func (md Metadata) Encode() ([]byte, error) {
	md.Format = Format
	b, err := json.MarshalIndent(md, "", "  ")
	return append(b, '\n'), err
}

// Decode reads the object. Where its format is newer the ID is set, too.
func Decode(b []byte) (md Metadata, err error) {
	if err := untrusted.CheckMetadata(b); err != nil {
		return md, err
	}
	if err := json.Unmarshal(b, &md); err != nil {
		return Metadata{}, fmt.Errorf("%s: %w", Name, err)
	}
	if md.Format > Format {
		return Metadata{ID: md.ID}, fmt.Errorf("%s has format %d: use a newer multidb", Name, md.Format)
	}
	return md, nil
}

// SetAccess notes who may use the database.
func (md *Metadata) SetAccess(a fsid.Access) {
	if a.Mode != 0 {
		md.Mode = fmt.Sprintf("%04o", a.Mode.Perm())
	}
	if a.Owned {
		md.UID, md.GID = &a.UID, &a.GID
	}
}

// Access is who may use the database; zero where that is not known.
func (md Metadata) Access() (a fsid.Access) {
	if mode, err := strconv.ParseUint(md.Mode, 8, 32); err == nil {
		a.Mode = fs.FileMode(mode).Perm()
	}
	if md.UID != nil && md.GID != nil && *md.UID >= 0 && *md.GID >= 0 {
		a.UID, a.GID, a.Owned = *md.UID, *md.GID, true
	}
	return a
}

// AccessAt is what the replica says of who may use the file. Where it cannot be read
// (no metadata is no error) only this process's user may.
func AccessAt(ctx context.Context, client any) (fsid.Access, error) {
	store, ok := client.(Store)
	if !ok {
		return fsid.Access{}, nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return fsid.Access{}, nil
	}
	var md Metadata
	if err == nil {
		md, err = Decode(b)
	}
	if err != nil {
		return fsid.Access{Mode: 0o600}, fmt.Errorf("%s cannot be read, so only this user may use the file: %w", Name, err)
	}
	return md.Access(), nil
}
