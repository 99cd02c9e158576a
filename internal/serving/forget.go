package serving

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/roster"
	"github.com/multidb-go/multidb/internal/store"
)

// Forget deletes the files of databases that other nodes have erased. A database of a shard that this
// node does not serve was erased if its page does not name it and the replica has nothing of it. A file that
// is not as it was when all of it was at the replica may have commits of a log that no
// prefix has yet: it is set aside, if nobody knows of it at the second look either. It makes one listing
// of the pages, reads those that have changed, and lists the prefix of what they do not
// name. files is how many databases had some. One caller at a time.
func (t *Tenants) Forget(ctx context.Context) (files int, err error) {
	suspects, looked, err := t.suspects(ctx)
	if err != nil {
		return 0, err
	}
	doubtful := map[string]bool{}
	var errs []error
	for _, r := range suspects {
		switch did, err := t.forget(ctx, r, t.doubtful[r.ID]); {
		case err != nil:
			errs = append(errs, fmt.Errorf("%q: %w", r.ID, err))
			delete(looked, r.Prefix.Shard)
		case did:
			files++
		default:
			doubtful[r.ID] = true
			delete(looked, r.Prefix.Shard)
		}
	}
	t.doubtful, t.looked = doubtful, looked
	return files, errors.Join(errs...)
}

// suspects are the databases that the catalog has of shards which this node does not serve, and that their
// pages do not name. looked are the numbers of the pages by now.
func (t *Tenants) suspects(ctx context.Context) (all []fleet.Recalled, looked map[int]uint64, err error) {
	s := t.Serving
	// Of most databases a hash is enough: a page names them.
	seed := maphash.MakeSeed()
	have := map[int][]uint64{}
	for r, err := range s.cfg.Conductor.Elsewhere(ctx) {
		if err != nil {
			return nil, nil, err
		}
		have[r.Prefix.Shard] = append(have[r.Prefix.Shard], maphash.String(seed, r.ID))
	}
	looked = map[int]uint64{}
	changed := func(shard int, number uint64) bool {
		if len(have[shard]) == 0 {
			return false
		}
		looked[shard] = number
		return t.looked[shard] != number
	}
	unnamed := map[uint64]bool{}
	for p, err := range roster.All(ctx, t.Pages, changed) {
		if err != nil {
			return nil, nil, err
		}
		named := map[uint64]bool{}
		for _, tenant := range p.Tenants {
			named[maphash.String(seed, tenant.ID)] = true
		}
		for _, h := range have[p.Shard] {
			if !named[h] {
				unnamed[h] = true
			}
		}
	}
	if len(unnamed) == 0 {
		return nil, looked, nil
	}
	for r, err := range s.cfg.Conductor.Elsewhere(ctx) {
		if err != nil {
			return nil, nil, err
		}
		if unnamed[maphash.String(seed, r.ID)] {
			all = append(all, r)
		}
	}
	return all, looked, nil
}

// forget deletes the files of one, or sets them aside. did is false if it was not erased, or that cannot be told
// yet. again: it could not be told the last time.
func (t *Tenants) forget(ctx context.Context, r fleet.Recalled, again bool) (did bool, err error) {
	client, err := t.Client(r.Database)
	if err != nil {
		return false, err
	}
	if objects, _, err := store.Size(ctx, client); err != nil || objects > 0 {
		return false, err
	}
	s := t.Serving
	s.coming.Lock() // its shard may be this node's at any time
	defer s.coming.Unlock()
	if s.cfg.Fleet.Serves(r.Prefix.Shard) || s.cfg.Fleet.Get(r.ID) != nil {
		return false, nil
	}
	if s.there(r.Path) {
		files, err := fsid.StatFiles(r.Path, s.cfg.Stat)
		if err != nil {
			return false, err
		}
		if !asSealed(files, r.Known.Position.Fingerprint) {
			if !again {
				return false, nil
			}
			if _, err := s.cfg.Opener.SetAside(ctx, r.ID, r.Path); err != nil {
				return false, err
			}
			s.cfg.Conductor.Forget(r.ID)
			return true, nil
		}
	}
	return true, t.Drop(ctx, r.Database)
}

// forgetAfter is when the first Forget begins after the start, in which a node has other things to do.
const forgetAfter = 5 * time.Minute
