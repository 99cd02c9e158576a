package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// claimer is the client of a prefix that nothing was written to yet. It writes
// metadata.json just before the first LTX file, and not sooner: if the database turns out
// to be corrupt, the prefix must not look like a backup. It outlives the run that made it,
// and belongs to whoever owns the State.
type claimer struct {
	litestream.ReplicaClient
	id, path string
	vars     map[string]string
	fleetLog string
	now      func() time.Time
	done     bool
}

func (c *claimer) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if !c.done {
		if err := c.claim(ctx); err != nil {
			return nil, err
		}
		c.done = true
	}
	return c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// claimingClient returns a client of an empty prefix that claims it at the first write.
func (x *run) claimingClient(client litestream.ReplicaClient) litestream.ReplicaClient {
	return &claimer{ReplicaClient: client, id: x.in.ID, path: x.in.Path, vars: x.in.Caller.Vars(), now: x.cfg.Now}
}

// claimForLog has metadata.json name the fleet log, from where a reader gets what is not
// unpacked. What else is in it stays: the prefix may be older than the log.
func (x *run) claimForLog(ctx context.Context) error {
	a := x.st.active
	if a.named {
		return nil
	}
	prefix := a.deferred.Prefix()
	c := &claimer{ReplicaClient: prefix, id: x.in.ID, path: x.in.Path, vars: x.in.Caller.Vars(), fleetLog: x.cfg.FleetLog, now: x.cfg.Now}
	if a.inv.Len() == 0 {
		if err := c.claim(ctx); err != nil {
			return err
		}
	} else if err := c.nameLog(ctx); err != nil {
		return err
	}
	a.named = true
	return nil
}

// nameLog adds the fleet log to the metadata.json of a prefix.
func (c *claimer) nameLog(ctx context.Context) error {
	store, ok := c.ReplicaClient.(metadata.Store)
	if !ok || c.fleetLog == "" {
		return nil
	}
	b, err := store.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return c.claim(ctx) // written by litestream itself
	} else if err != nil {
		return err
	}
	md, err := metadata.Decode(b)
	if err != nil || md.FleetLog == c.fleetLog {
		return nil // one that cannot be read is left alone
	}
	md.FleetLog = c.fleetLog
	if b, err = md.Encode(); err != nil {
		return err
	}
	return store.WriteMetadata(ctx, b)
}

// claim writes metadata.json to an empty prefix.
func (c *claimer) claim(ctx context.Context) error {
	store, ok := c.ReplicaClient.(metadata.Store)
	if !ok {
		return nil
	}
	md := metadata.Metadata{ID: c.id, Path: c.path, CreatedAt: c.now().UTC(), Vars: c.vars, FleetLog: c.fleetLog}
	if fi, err := os.Stat(c.path); err == nil {
		md.SetAccess(fsid.AccessOf(fi))
	}
	b, err := md.Encode()
	if err != nil {
		return err
	}
	return store.WriteMetadata(ctx, b)
}

// checkClaim makes sure that the prefix is not another database's, by its metadata.json. It
// does so only if nothing is known of the prefix's history.
func (x *run) checkClaim(ctx context.Context, client litestream.ReplicaClient) error {
	meta, ok := client.(metadata.Store)
	if !ok || x.st.db.State.TXID != 0 {
		return nil
	}
	b, err := meta.ReadMetadata(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // written by litestream itself
	} else if err != nil {
		return err
	}
	md, err := metadata.Decode(b)
	if err != nil {
		return err
	}
	if err := md.Unusable(); err != nil {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	if md.ID != "" && md.ID != x.in.ID {
		return fmt.Errorf("%w: its metadata.json says %q", ErrConflict, md.ID)
	}
	return nil
}
