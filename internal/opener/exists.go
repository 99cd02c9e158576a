package opener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/inquiry"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
	"github.com/multidb-go/multidb/internal/sqlitedb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/superfly/ltx"
)

// How long, and of how many IDs that nobody here knows, the replica's answer is remembered.
const (
	answerKept = 30 * time.Second
	answersMax = 4096
)

// backup is what the replica says of an ID.
type backup struct {
	newest   ltx.TXID // 0: it has nothing
	unusable error    // why the database is not in service
}

// newInquiry asks the replica, one listing for an ID, and one more request where it has
// something.
func (o *Opener) newInquiry() *inquiry.Inquiry[backup] {
	return inquiry.New(inquiry.Config[backup]{
		Timeout: askTimeout, Keep: answerKept, Max: answersMax, Now: o.cfg.Boot,
		Ask: func(ctx context.Context, id string) (b backup, err error) {
			db, _, ok := o.cfg.Locate(id)
			if !ok {
				return b, registry.ErrNotFound
			}
			client, err := o.cfg.Client(db)
			if err != nil {
				return b, err
			}
			if b.newest, err = store.Newest(ctx, client); err != nil || b.newest == 0 {
				return b, err
			}
			md, err := metadata.At(ctx, client)
			if err == nil {
				b.unusable = md.Unusable()
			}
			return b, err
		},
	})
}

// Forget drops what the replica has said of IDs, as something is done to them.
func (o *Opener) Forget(ids ...string) { o.inquiry.Forget(ids...) }

// Exists reports whether there is a database with an ID: known here, or at the replica, and
// in service.
func (o *Opener) Exists(ctx context.Context, id string) (bool, error) {
	err := o.fleet.Withheld(id)
	if err == nil {
		if o.fleet.Has(id) {
			return true, nil
		}
		err = o.find(ctx, id)
	}
	switch {
	case err == nil, errors.Is(err, replicate.ErrBackupExists):
		return true, nil
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, metadata.ErrRemoved):
		return false, nil
	}
	return false, err
}

// find looks for a database that is not known: nil, it may be opened, which makes nothing
// new. registry.ErrNotFound: there is none. replicate.ErrBackupExists: only at the replica,
// from where nothing is to be brought back.
func (o *Opener) find(ctx context.Context, id string) error {
	if err := o.fleet.WhyNot(id); !errors.Is(err, registry.ErrNotFound) {
		return err // its file was refused
	}
	db, _, ok := o.cfg.Locate(id)
	if !ok {
		return registry.ErrNotFound
	}
	switch fi, err := os.Stat(db.Path); {
	case err == nil && !fi.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no regular file", sqlitedb.ErrNotDatabase, db.Path)
	case err == nil:
		return nil // no scan has listed it yet
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: %w", registry.ErrNotFound, err)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return err
	}
	if err := o.cfg.Prefix(db).Err; err != nil {
		return fmt.Errorf("%w: %w", registry.ErrNotFound, err) // it could never be replicated
	}
	if err := o.cfg.Volumes.Stands(db.Path); err != nil {
		return err
	}
	if !o.cfg.Replicated {
		return registry.ErrNotFound
	}
	b, err := o.inquiry.Ask(ctx, id)
	switch {
	case errors.Is(err, inquiry.ErrClosed):
		return life.ErrClosed
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return fmt.Errorf("whether the replica has it is not known: %w", err)
	case b.newest == 0:
		return registry.ErrNotFound
	case b.unusable != nil:
		return b.unusable
	case !o.cfg.RestoreOnOpen:
		return fmt.Errorf("%w, up to transaction %s, and no file: restore it first (WithRestoreOnOpen, or Restore)", replicate.ErrBackupExists, b.newest)
	}
	return nil
}

// LeaseExisting is Lease for a database that exists, here or at the replica; see find. It
// makes none.
func (o *Opener) LeaseExisting(ctx context.Context, id string) (Lease, error) {
	if o.fleet.Has(id) {
		return o.LeaseKnown(ctx, id)
	}
	if err := o.find(ctx, id); err != nil {
		if o.fleet.Has(id) { // it was made meanwhile
			return o.LeaseKnown(ctx, id)
		}
		return Lease{}, err
	}
	return o.leaseOf(ctx, id, o.cfg.Locate, false)
}

// errUnwanted is what an opening ends with that would make a new file, which nobody wants who
// waits for it.
var errUnwanted = fmt.Errorf("%w: it has no file, and no backup", registry.ErrNotFound)

// want says that a new file may be made for a database, until unwant. The pool opens a
// database once for all who wait for it.
func (o *Opener) want(e *fleet.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wanted[e]++
}

func (o *Opener) unwant(e *fleet.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted[e]--; o.wanted[e] == 0 {
		delete(o.wanted, e)
	}
}

func (o *Opener) isWanted(e *fleet.Entry) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted[e] > 0
}
