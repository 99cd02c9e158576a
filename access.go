package multidb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// accessMetadata is the part of metadata.json that says who may use the file.
type accessMetadata struct {
	Mode string `json:"mode,omitempty"` // octal
	UID  *int   `json:"uid,omitempty"`
	GID  *int   `json:"gid,omitempty"`
}

func metadataOf(a fsid.Access) (md accessMetadata) {
	if a.Mode != 0 {
		md.Mode = fmt.Sprintf("%04o", a.Mode.Perm())
	}
	if a.Owned {
		md.UID, md.GID = &a.UID, &a.GID
	}
	return md
}

func (md accessMetadata) access() (a fsid.Access) {
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
func accessAt(ctx context.Context, client litestream.ReplicaClient) (fsid.Access, error) {
	store, ok := client.(MetadataStore)
	if !ok {
		return fsid.Access{}, nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return fsid.Access{}, nil
	}
	var md metadata
	if err == nil {
		err = untrusted.CheckMetadata(b)
	}
	if err == nil {
		err = json.Unmarshal(b, &md)
	}
	if err != nil {
		return fsid.Access{Mode: 0o600}, fmt.Errorf("metadata.json cannot be read, so only this user may use the file: %w", err)
	}
	return md.accessMetadata.access(), nil
}
