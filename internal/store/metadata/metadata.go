// Package metadata reads and writes metadata.json, the small object beside the levels
// of a prefix that says whose prefix it is. Anybody may have written what is read, so
// reading is bounded. The package touches nothing but the client that it is given,
// and has no state and no locks.
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// Name is the object's name.
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
	// FleetLog is the directory, beside the prefixes of the replica, of the fleet log that
	// may have newer transactions than the prefix. Empty: there is none.
	FleetLog string `json:"fleet_log,omitempty"`

	// RemovedAt is when the database was taken out of service, and EraseAfter when its
	// backups go; RenamedTo is what it is called now, and Making what the prefix is being made
	// from and does not have all of yet. Where one of these is set nothing may be put into
	// service from here: see Unusable.
	RemovedAt  *time.Time `json:"removed_at,omitempty"`
	EraseAfter *time.Time `json:"erase_after,omitempty"`
	RenamedTo  string     `json:"renamed_to,omitempty"`
	Making     string     `json:"making,omitempty"`
	// Origin is the database from which this one was forked, or that was renamed to it.
	Origin string `json:"origin,omitempty"`

	// Who may use the database, when the prefix was claimed.
	Mode string `json:"mode,omitempty"` // octal
	UID  *int   `json:"uid,omitempty"`
	GID  *int   `json:"gid,omitempty"`
}

// ErrRemoved: the database was taken out of service, or is called something else now.
var ErrRemoved = errors.New("the database was removed")

// Unusable is why the database must not be put into service from this prefix; nil: it may.
func (md Metadata) Unusable() error {
	switch {
	case md.RenamedTo != "":
		return fmt.Errorf("%w: it was renamed to %q", ErrRemoved, md.RenamedTo)
	case md.RemovedAt != nil && md.EraseAfter != nil:
		return fmt.Errorf("%w on %s, and its backups go after %s: Undelete it, or Erase it before another one is made", ErrRemoved,
			md.RemovedAt.UTC().Format(time.RFC3339), md.EraseAfter.UTC().Format(time.RFC3339))
	case md.RemovedAt != nil:
		return fmt.Errorf("%w on %s, and is being erased", ErrRemoved, md.RemovedAt.UTC().Format(time.RFC3339))
	case md.Making != "":
		return fmt.Errorf("%w: its prefix is the unfinished copy of %q", ErrRemoved, md.Making)
	}
	return nil
}

// Encode returns the object's bytes, in this Format.
func (md Metadata) Encode() ([]byte, error) {
	md.Format = Format
	b, err := json.MarshalIndent(md, "", "  ")
	return append(b, '\n'), err
}

// FormatError says which newer format the object has.
type FormatError int

func (e FormatError) Error() string {
	return fmt.Sprintf("%s has format %d: use a newer multidb", Name, int(e))
}

// Decode reads the object. The error wraps untrusted.ErrDamaged if it is too large,
// and is a FormatError if its format is newer; then the fields that could be read are
// returned too.
func Decode(b []byte) (md Metadata, err error) {
	md, err = decode(b)
	switch {
	case errors.Is(err, untrusted.ErrDamaged):
		return md, err
	case err != nil:
		return md, fmt.Errorf("%s: %w", Name, err)
	case md.Format > Format:
		return md, FormatError(md.Format)
	}
	return md, nil
}

func decode(b []byte) (md Metadata, err error) {
	if err := untrusted.CheckMetadata(b); err != nil {
		return md, err
	}
	if err := json.Unmarshal(b, &md); err != nil {
		return Metadata{}, err
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

// At returns what the replica says of a database: that only this process's user may use
// the file if the metadata cannot be read; missing metadata is not an error. Of a newer
// format the known fields are read.
func At(ctx context.Context, client any) (md Metadata, err error) {
	if log, ok := client.(interface {
		Prefix() litestream.ReplicaClient
	}); ok { // a fleet log has none of its own
		client = log.Prefix()
	}
	store, ok := client.(Store)
	if !ok {
		return Metadata{}, nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return Metadata{}, nil
	}
	if err == nil {
		md, err = decode(b)
	}
	if err != nil {
		return Metadata{Mode: "0600"}, fmt.Errorf("%s cannot be read, so only this user may use the file, and a fleet log that it may name is left out: %w", Name, err)
	}
	return md, nil
}
