package serving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/roster"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/metadata"
)

// Tenants makes known which databases the shards of a node have, of whom there need be nothing on
// its disk. It answers roster.Config.Found.
type Tenants struct {
	Serving *Serving
	Roster  *roster.Roster
	Locate  func(id string) (db registry.Database, source int, ok bool)
	// Client is the client of a database's prefix, without the log, and At the database that has a
	// directory, as far as that tells.
	Client func(registry.Database) (litestream.ReplicaClient, error)
	At     func(dir string) (registry.Database, error)
	// Taken are the directories of which logs had something that this node took over, and Named is called with those of
	// which it is known whose they are.
	Taken func() []string
	Named func(dir string)
	// Told takes in what the page says of a database's life, where another node did it: when it was taken out of
	// service, or, where that is zero, that it is in service. It returns whether it is.
	Told func(ctx context.Context, db registry.Database, at time.Time) (serves bool, err error)
	// Pages is where the pages are, and Drop deletes what this machine has of a database that another node has
	// erased.
	Pages store.Objects
	Drop  func(context.Context, registry.Database) error
	Warn  func(msg string, args ...any)

	// Of Forget, from its last look: the numbers of the pages that need not be read again while they stay; and the
	// IDs of which it could not be told whether they were erased.
	looked   map[int]uint64
	doubtful map[string]bool
}

// asksAtOnce is how many prefixes are asked about at the same time.
const asksAtOnce = 16

// Found makes databases known that pages name, and has those named that no page has: what this
// node knew of before there was one, and what a node that died had no time to name, of which its
// log has something.
func (t *Tenants) Found(ctx context.Context, pages []*roster.Page) error {
	named := map[int]*roster.Page{}
	var errs []error
	for _, p := range pages {
		named[p.Shard] = p
		for _, tenant := range p.Tenants {
			errs = append(errs, t.named(ctx, p.Shard, tenant))
		}
	}
	errs = append(errs, t.nameKnown(ctx, named), t.nameLogged(ctx, named))
	return errors.Join(errs...)
}

// named makes one known that a page names.
func (t *Tenants) named(ctx context.Context, shard int, tenant roster.Tenant) error {
	if now, erased, pending := t.Roster.Pending(shard, tenant.ID); pending {
		if tenant = now; erased {
			return nil
		}
	}
	db, source, ok := t.Locate(tenant.ID)
	if !ok {
		t.Warn("multidb: a database of the cluster fits no discovery pattern of this node", "id", tenant.ID)
		return nil
	}
	if serves, err := t.Told(ctx, db, tenant.Removed); err != nil || !serves {
		return err
	}
	return t.introduce(db, source)
}

// introduce makes a database known that is at the replica.
func (t *Tenants) introduce(db registry.Database, source int) error {
	f := t.Serving.cfg.Fleet
	if f.Get(db.ID) != nil || f.Withheld(db.ID) != nil {
		return nil
	}
	c := fleet.Candidate{Database: db, Prefix: t.Serving.cfg.Prefix(db), Source: source}
	e, err := f.AddEvicted(c)
	switch {
	case errors.Is(err, fleet.ErrElsewhere), errors.Is(err, registry.ErrConflict):
		return nil // it is another node's by now, or somebody was faster
	case err != nil:
		return fmt.Errorf("%q: %w", db.ID, err)
	}
	// Whoever began to take it away meanwhile did not see it.
	if _, erased, pending := t.Roster.Pending(c.Prefix.Shard, db.ID); pending && erased || f.Withheld(db.ID) != nil {
		f.Drop(e)
	}
	return nil
}

// nameKnown has databases named that this node knows, and their pages do not. One that was erased
// by another node meanwhile is one of these, so that the replica is asked.
func (t *Tenants) nameKnown(ctx context.Context, named map[int]*roster.Page) error {
	var ask []registry.Database
	for shard, p := range named {
		for _, e := range t.Serving.cfg.Fleet.OfShard(shard) {
			_, listed := p.Find(e.ID())
			if _, _, pending := t.Roster.Pending(shard, e.ID()); !listed && !pending {
				ask = append(ask, e.Database())
			}
		}
	}
	return all(ask, func(db registry.Database) error {
		client, err := t.Client(db)
		if err != nil {
			return err
		}
		backed, err := t.backedUp(ctx, client)
		if err == nil && backed {
			t.Roster.Note(db)
		}
		return err
	})
}

// backedUp reports whether there is a backup, of a database that is in service.
func (t *Tenants) backedUp(ctx context.Context, client litestream.ReplicaClient) (bool, error) {
	md, err := metadata.At(ctx, client)
	if err != nil || md.Unusable() != nil {
		return false, err
	}
	newest, err := store.Newest(ctx, client)
	return newest != 0, err
}

// nameLogged has databases named of which the log has something, and nobody else knows.
func (t *Tenants) nameLogged(ctx context.Context, named map[int]*roster.Page) error {
	taken := slices.DeleteFunc(t.Taken(), func(dir string) bool {
		_, here := named[t.Serving.cfg.Shard(dir)]
		return !here
	})
	if len(taken) == 0 {
		return nil
	}
	known := map[string]bool{}
	for shard := range named {
		for _, e := range t.Serving.cfg.Fleet.OfShard(shard) {
			if dir, err := t.Serving.cfg.Dir(e.Database()); err == nil {
				known[dir] = true
			}
		}
	}
	return all(taken, func(dir string) error {
		if !known[dir] {
			if err := t.nameAt(ctx, dir); err != nil {
				return err
			}
		}
		t.Named(dir)
		return nil
	})
}

// nameAt makes known whose a directory is, by what is written there or, while nothing is, by its name.
func (t *Tenants) nameAt(ctx context.Context, dir string) error {
	db, err := t.At(dir)
	if err != nil {
		return err
	}
	client, err := t.Client(db)
	if err != nil {
		return err
	}
	md, err := metadata.At(ctx, client)
	if err != nil || md.Unusable() != nil {
		return err
	}
	if !t.Serving.cfg.Log.Lacks(dir) {
		if newest, err := store.Newest(ctx, client); err != nil || newest == 0 {
			return err // it was erased since
		}
	}
	db, source, ok := t.Locate(cmp.Or(md.ID, db.ID))
	if at, err := t.Serving.cfg.Dir(db); !ok || err != nil || at != dir {
		t.Warn("multidb: a node has died that had a database which fits no discovery pattern of this one", "dir", dir, "id", db.ID)
		return nil //nolint:nilerr // it is known when it is next used
	}
	return t.introduce(db, source)
}

// all calls fn with each, some at once.
func all[T any](of []T, fn func(T) error) error {
	var mu sync.Mutex
	var failed int
	var first error
	var wg sync.WaitGroup
	slots := make(chan struct{}, asksAtOnce)
	for _, one := range of {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fn(one); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if failed++; first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	if failed > 1 {
		return fmt.Errorf("%d databases, the first of them: %w", failed, first)
	}
	return first
}
