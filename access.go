package multidb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// access is who may use a database file: its mode and owner.
type access struct {
	Mode  fs.FileMode // the permission bits; 0: not known
	UID   int
	GID   int
	Owned bool // UID and GID are known
}

func accessOf(fi fs.FileInfo) access {
	a := access{Mode: fi.Mode().Perm()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID, a.Owned = int(st.Uid), int(st.Gid), true
	}
	return a
}

// give sets the mode and owner of a file. Only root may give a file to another owner:
// who may not keeps it. It never opens the mode further before the owner is right.
func (a access) give(path string) error {
	if a.Owned {
		if err := os.Chown(path, a.UID, a.GID); err != nil && !errors.Is(err, fs.ErrPermission) &&
			!errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // EINVAL: an owner that this user namespace has not
			return err
		}
	}
	if a.Mode == 0 {
		return nil // as it was made: 0644 under the usual umask
	}
	return os.Chmod(path, a.Mode.Perm())
}

// accessMetadata is the part of metadata.json that says who may use the file.
type accessMetadata struct {
	Mode string `json:"mode,omitempty"` // octal
	UID  *int   `json:"uid,omitempty"`
	GID  *int   `json:"gid,omitempty"`
}

func (a access) metadata() (md accessMetadata) {
	if a.Mode != 0 {
		md.Mode = fmt.Sprintf("%04o", a.Mode.Perm())
	}
	if a.Owned {
		md.UID, md.GID = &a.UID, &a.GID
	}
	return md
}

func (md accessMetadata) access() (a access) {
	if mode, err := strconv.ParseUint(md.Mode, 8, 32); err == nil {
		a.Mode = fs.FileMode(mode).Perm()
	}
	if md.UID != nil && md.GID != nil && *md.UID >= 0 && *md.GID >= 0 {
		a.UID, a.GID, a.Owned = *md.UID, *md.GID, true
	}
	return a
}

// accessAt is what the replica says of who may use the file. Where it cannot be read
// (no metadata is no error) only this process's user may.
func accessAt(ctx context.Context, client litestream.ReplicaClient) (access, error) {
	store, ok := client.(MetadataStore)
	if !ok {
		return access{}, nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return access{}, nil
	}
	var md metadata
	if err == nil {
		err = untrusted.CheckMetadata(b)
	}
	if err == nil {
		err = json.Unmarshal(b, &md)
	}
	if err != nil {
		return access{Mode: 0o600}, fmt.Errorf("metadata.json cannot be read, so only this user may use the file: %w", err)
	}
	return md.accessMetadata.access(), nil
}
