package replicate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/localfile"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// errInUse: the local file was opened or written to while its replacement was restored.
var errInUse = localfile.ErrInUse

// Why a file is replaced, as the name of the one that is set aside says.
const (
	behind     = "behind"     // it has nothing that the replica lacks
	unpromised = "unpromised" // others have served the database without what only the file has
)

// replaceLocal sets the local file aside and puts the replica's newest state in its place.
// Nobody may have the file open. A cache that lags is not kept.
func (x *run) replaceLocal(ctx context.Context, why string) (kept string, err error) {
	x.unverify()
	cache := x.st.cache
	client, err := x.in.Caller.Client()
	if err != nil {
		return "", err
	}
	began := x.cfg.Boot()
	files, err := store.Files(ctx, client, false)
	if err != nil {
		return "", fmt.Errorf("list the replica: %w", err)
	} else if len(files) == 0 {
		return "", restore.ErrNoBackup
	}
	inv := new(levels.Inventory)
	inv.Reset(files)
	plan, err := inv.RestorePlan(ctx, 0, time.Time{})
	if err != nil {
		return "", err
	}
	path := x.in.Path
	aside := filepath.Join(filepath.Dir(path), localfile.KeptDir)
	incoming := filepath.Join(aside, filepath.Base(path)+".incoming")
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} { // left by a replacement that a crash interrupted
		if err := os.Remove(incoming + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	made, err := restore.From(ctx, client, fromInventory(client, inv), restore.Options{Output: incoming, Logger: x.cfg.Logger, OtherLog: x.otherLog(x.in.ID), Serve: true})
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if !x.mayReplace() {
		return "", errors.Join(errInUse, os.Remove(incoming))
	}
	if fi, err := os.Stat(path); err == nil { // it may have been changed since
		if err := fsid.AccessOf(fi).Give(incoming); err != nil {
			return "", err
		}
	}
	if kept, err = localfile.SetAside(ctx, path, aside, why, x.cfg.Now()); err != nil {
		return kept, fmt.Errorf("%w: %w", ErrReplacing, err)
	}
	if err := localfile.Publish(incoming, path); err != nil {
		return kept, fmt.Errorf("%w: it is set aside as %s: %w", ErrReplacing, kept, err)
	}
	if err := os.Remove(incoming); err != nil && !errors.Is(err, os.ErrNotExist) {
		return kept, err
	}
	rest, err := x.afterRestore(ctx, path, client, inv, plan[len(plan)-1], made)
	switch rest.EndSeen = began; {
	case err == nil:
		*x.st = Restored(rest)
	case errors.Is(err, fs.ErrNotExist): // unpacked meanwhile: the next run finds out where it ends
		*x.st = State{unrecorded: true, cache: cache}
	default:
		return kept, err
	}
	x.st.db.Path = path
	x.r.Drained = true
	switch {
	case cache && why == behind: // all of it is in the replica's history
		if err := localfile.Drop(kept); err != nil {
			return kept, err
		}
		kept = ""
	case why == unpromised:
		x.event(Event{Type: EventSetAside, Path: kept, TXID: rest.Position.TXID})
	default:
		x.event(Event{Type: EventAdopted, Path: kept, TXID: rest.Position.TXID})
	}
	x.r.Files, err = x.stat()
	return kept, err
}

// mayReplace reports whether the local file may be replaced now. Unless an operator has
// ordered it, the file must be as it was when it was found to have nothing that the replica
// lacks.
func (x *run) mayReplace() bool {
	now, err := x.stat()
	return (x.in.Order == OrderAdopt || err == nil && now == x.r.Files) && x.in.Caller.MayReplace()
}

// afterRestore returns the position of a file at path that was just made from the replica:
// it is exactly the state at the end of the file last, whose header is in made. The caller must set EndSeen to when
// the replica was listed, before the restore.
func (p *Replicator) afterRestore(ctx context.Context, path string, client litestream.ReplicaClient, inv *levels.Inventory, last *ltx.FileInfo, made restore.Made) (rest Remains, err error) {
	st := &rest.Position
	st.TXID = last.MaxTXID
	if st.Origin, err = ship.OriginIn(last, made.Header, made.Sum); err != nil {
		return rest, err
	}
	// A restore ends with a compacted file where it can, but what says who wrote last is the
	// file of the lowest level: ship.Verify will compare with that one.
	if first := lowest(inv, last); first != nil {
		if st.Origin, err = ship.OriginOf(ctx, client, first); err != nil {
			return rest, err
		}
	}
	if st.PageSize, err = sqlitedb.PageSize(ctx, path); err != nil {
		return rest, err
	}
	if st.Fingerprint, err = p.cfg.Ship.FingerprintSetBack(ctx, path, made.Mtime); err != nil {
		return rest, err
	}
	st.Ino, st.Commit = st.Fingerprint.Ino, uint32(st.Fingerprint.Size/int64(st.PageSize))
	if log, ok := client.(Deferred); ok && log.Lacks() != 0 { // which the inventory has when it is unpacked
		files, err := store.Files(ctx, log.Prefix(), false)
		if err != nil {
			return rest, fmt.Errorf("list the replica: %w", err)
		}
		inv.Reset(files)
	}
	inv.MarkSeen(p.cfg.Now(), p.cfg.Grace)
	rest.Inventory, err = inv.AppendBinary(nil)
	return rest, err
}

// lowest returns the file of a lower level that ends with the same transaction; nil: there is
// none.
func lowest(inv *levels.Inventory, last *ltx.FileInfo) *ltx.FileInfo {
	for level := range last.Level {
		for f := range inv.Files(level) {
			if f.MaxTXID == last.MaxTXID {
				return f
			}
		}
	}
	return nil
}

// otherLog is restore.Options.OtherLog.
func (p *Replicator) otherLog(id string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		if dir == p.cfg.FleetLog || p.cfg.OtherLog == nil {
			return nil
		}
		return p.cfg.OtherLog(ctx, id, dir)
	}
}

// planOf returns a function that returns which of these files restore the newest state.
func planOf(ctx context.Context, files []*ltx.FileInfo) func() ([]*ltx.FileInfo, error) {
	return func() ([]*ltx.FileInfo, error) {
		var inv levels.Inventory
		inv.Reset(files)
		return inv.RestorePlan(ctx, 0, time.Time{})
	}
}

// Missing is a database whose file does not exist and is to be made from the replica.
type Missing struct {
	ID     string
	Path   string
	Client litestream.ReplicaClient
	// Remains is what was known of it when its file disappeared; nil: nothing.
	Remains *Remains
	Opt     restore.Options // Output, Logger and OtherLog are set by Restore
}

// Restore makes the missing file of a database from the replica. now is the position of the
// new file, from which shipping goes on without a resync; it is zero if it is not known.
// The error is restore.ErrNoBackup if the replica has no backup. ctx bounds all of it.
func (p *Replicator) Restore(ctx context.Context, db Missing) (now Remains, err error) {
	// What a log that was taken over has may be unpacked meanwhile, as one file: then it is
	// listed again.
	for range restoreAttempts {
		if now, err = p.restoreOnce(ctx, db); err == nil || !errors.Is(err, fs.ErrNotExist) || errors.Is(err, restore.ErrNoBackup) {
			break
		}
		db.Remains = nil
	}
	return now, err
}

// restoreAttempts is how often a restore begins anew whose files are gone.
const restoreAttempts = 3

func (p *Replicator) restoreOnce(ctx context.Context, db Missing) (now Remains, err error) {
	began := p.cfg.Boot()
	inv, err := p.inventoryOf(ctx, db)
	if err != nil {
		return now, err
	}
	db.Opt.Output, db.Opt.Logger, db.Opt.OtherLog, db.Opt.Serve = db.Path, p.cfg.Logger, p.otherLog(db.ID), true
	if inv.Len() == 0 { // no backup, or one in the layout of litestream 0.3
		return now, restore.Newest(ctx, db.Client, db.Opt)
	}
	plan, err := inv.RestorePlan(ctx, 0, time.Time{})
	if err != nil {
		return now, err
	}
	made, err := restore.From(ctx, db.Client, fromInventory(db.Client, inv), db.Opt)
	if err != nil {
		return now, err
	}
	now, err = p.afterRestore(ctx, db.Path, db.Client, inv, plan[len(plan)-1], made)
	if errors.Is(err, fs.ErrNotExist) { // unpacked meanwhile: the first run finds out where it ends
		return Remains{}, nil
	}
	now.EndSeen = began
	return now, err
}

// inventoryOf returns what the replica holds of a database. If something was known when the
// file disappeared, it only looks whether somebody has written since; otherwise it lists.
func (p *Replicator) inventoryOf(ctx context.Context, db Missing) (*levels.Inventory, error) {
	inv := new(levels.Inventory)
	// If somebody has written since, the file of the next transaction shows it: within the
	// window of Absent nobody deletes that file.
	if known := db.Remains; known != nil && inv.UnmarshalBinary(known.Inventory) == nil && inv.Len() > 0 && inv.MaxTXID() == known.Position.TXID {
		next := known.Position.TXID + 1
		rc, err := db.Client.OpenLTXFile(ctx, 0, next, next, 0, ltx.HeaderSize)
		if errors.Is(err, fs.ErrNotExist) {
			return inv, nil
		} else if err != nil {
			return nil, err
		}
		if err := rc.Close(); err != nil {
			return nil, err
		}
	}
	files, err := store.Files(ctx, db.Client, false)
	if err != nil {
		return nil, err
	}
	inv.Reset(files)
	return inv, nil
}
