package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// Settings are what all nodes of a cluster must have in common, or two of them would serve one
// tenant under two names. The first node writes them down, and they never change.
type Settings struct {
	Format int `json:"format"`
	// Shards and Hash are how a prefix is given to a shard.
	Shards int    `json:"shards"`
	Hash   string `json:"hash"`
	// Template is where the replica keeps databases: a place with the names of its variables
	// for their values.
	Template string `json:"template"`
}

// settingsName is the object, in the directory of the fleet log.
const settingsName = "cluster/settings"

// maxSettings bounds what is read of it, in bytes.
const maxSettings = 1 << 16

// ErrSettings is returned where a node is not like the others.
var ErrSettings = errors.New("this node is not set up as the others of its cluster are")

// SettingsOf are those of this version.
func SettingsOf(template string) Settings {
	return Settings{Format: 1, Shards: format.Shards, Hash: "sha256, the first 10 bits", Template: template}
}

// Agree writes the settings down, or compares them with those that are there. One request for the
// first node, two for the others.
func Agree(ctx context.Context, objects store.Objects, mine Settings) error {
	b, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	if err := objects.Create(ctx, settingsName, b); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	rc, err := objects.Open(ctx, settingsName, 0, 0)
	if err != nil {
		return err
	}
	b, err = io.ReadAll(io.LimitReader(rc, maxSettings))
	if err = errors.Join(err, rc.Close()); err != nil {
		return err
	}
	var theirs Settings
	if err := json.Unmarshal(b, &theirs); err != nil {
		return fmt.Errorf("%w: %s cannot be read: %w", ErrSettings, settingsName, err)
	}
	switch {
	case theirs == mine:
		return nil
	case theirs.Format != mine.Format || theirs.Shards != mine.Shards || theirs.Hash != mine.Hash:
		return fmt.Errorf("%w: they divide the tenants into %d shards by %s (format %d), this version into %d by %s (format %d): use one version that they all understand",
			ErrSettings, theirs.Shards, theirs.Hash, theirs.Format, mine.Shards, mine.Hash, mine.Format)
	}
	return fmt.Errorf("%w: they keep tenants at %q, this one at %q: use one template, or another FleetLogConfig.Path for another cluster; a cluster that is to change its template is stopped first, and the object %s deleted",
		ErrSettings, theirs.Template, mine.Template, settingsName)
}

// Alone returns an error if the directory of a fleet log is a cluster's: a single process would
// end the logs of all nodes. It is an ErrSettings, or why that could not be found out. One request.
func Alone(ctx context.Context, objects store.Objects, path string) error {
	there := false
	for info, err := range objects.List(ctx, settingsName, "") { // to open what is not there some stores refuse
		if err != nil {
			return err
		}
		there = there || info.Name == settingsName
	}
	if !there {
		return nil
	}
	return fmt.Errorf("%w: the fleet log %s is that of a cluster (it has the object %s), and this process is no node, so that it would take all tenants from the nodes: "+
		"start it WithCluster (cluster: in the configuration); or, if there is to be no cluster any more, stop all nodes and delete that object", ErrSettings, path, settingsName)
}

// Another returns an ErrSettings if the fleet log of a database that a node with another log is about to take in is a cluster's.
func Another(ctx context.Context, objects store.Objects, dir, own string) error {
	err := Alone(ctx, objects, dir)
	if errors.Is(err, ErrSettings) {
		return fmt.Errorf("%w: the prefix says that its fleet log is %s, which is another cluster's, and FleetLogConfig.Path of this one is %s: use one path for all nodes; if there is no such cluster any more, delete %s/%s",
			ErrSettings, dir, own, dir, settingsName)
	}
	return err
}
