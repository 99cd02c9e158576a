package multidb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/store/tree"
)

// TenantLister is an optional interface of a ReplicaFactory: it lists the
// databases that the replica holds, from the replica alone, for a new machine that
// knows nothing else.
//
// Every pair is a database or an error about a part of the listing, which then
// continues as far as it can. With an error about one database, ID names it. The
// order is undefined. ctx ends the listing, and its error is the last pair. Databases that
// were removed are left out, and so are prefixes that a Fork or Rename has not finished or
// left behind; RestoreFrom still restores a removed one.
//
// A database is recognized by its metadata.json or, where litestream wrote the
// prefix itself, by its LTX files: its ID is then made of the template's values
// in their order. Path is where the database was on the machine that wrote it,
// empty if that is not known. The factory expands every database that is
// yielded to the prefix where it was found, so that RestoreFrom restores it.
type TenantLister interface {
	Tenants(ctx context.Context) iter.Seq2[Database, error]
}

// TenantAt helps to implement TenantLister. It returns the Database that expands
// to a prefix that was found. data is the metadata.json there; nil if there is
// none. t is the factory's template; nil if it keeps each database at its ID. The
// error says why the prefix is not that of a database of this factory, or wraps
// ErrRemoved: a listing leaves such a one out. The ID is set if it is known.
func TenantAt(t *Template, prefix string, data []byte) (Database, error) {
	var md metadata.Metadata
	if data != nil {
		var (
			err   error
			newer metadata.FormatError
		)
		switch md, err = metadata.Decode(data); {
		case errors.As(err, &newer):
			return Database{ID: ID(md.ID)}, fmt.Errorf("%s: %w", prefix, err)
		case errors.Is(err, ErrDamaged):
			return tenantOf(t, prefix, md).db, fmt.Errorf("%s: %s: %w", prefix, metadata.Name, err)
		case err != nil:
			return tenantOf(t, prefix, md).db, fmt.Errorf("%s: %w", prefix, err)
		}
	}
	r := tenantOf(t, prefix, md)
	if !r.ok {
		return r.db, fmt.Errorf("%s: template %q does not lead here", prefix, t)
	}
	if err := md.Unusable(); err != nil {
		return r.db, fmt.Errorf("%s: %w", prefix, err)
	}
	return r.db, nil
}

type tenantAt struct {
	db Database
	ok bool
}

// tenantOf trusts the place more than the metadata: a bucket may have been copied,
// or its template changed.
func tenantOf(t *Template, prefix string, md metadata.Metadata) tenantAt {
	db := Database{ID: ID(md.ID), Path: md.Path, fleetLog: md.FleetLog}
	for _, name := range slices.Sorted(maps.Keys(md.Vars)) {
		db.Vars = append(db.Vars, Var{name, md.Vars[name]})
	}
	if t == nil {
		if db.ID == "" {
			db.ID = ID(prefix)
		}
		return tenantAt{db, string(db.ID) == prefix}
	}
	if at, err := t.Expand(db); err == nil && at == prefix && db.ID != "" {
		return tenantAt{db, true}
	}
	values, ok := t.Match(prefix)
	if !ok {
		if db.ID == "" {
			db.ID = ID(prefix)
		}
		return tenantAt{db, false}
	}
	for _, v := range values {
		i := slices.IndexFunc(db.Vars, func(w Var) bool { return w.Name == v.Name })
		if i < 0 {
			db.Vars = append(db.Vars, v)
		} else {
			db.Vars[i] = v
		}
		if v.Name == "path" {
			db.RelPath = v.Value
		}
	}
	if db.ID == "" {
		db.ID = joinedValues(values, prefix)
	}
	return tenantAt{db, true}
}

// ListTenants calls Tenants of a factory. If it has none, the only pair is an error
// that wraps errors.ErrUnsupported.
func ListTenants(ctx context.Context, f ReplicaFactory) iter.Seq2[Database, error] {
	if l, ok := f.(TenantLister); ok {
		return l.Tenants(ctx)
	}
	return func(yield func(Database, error) bool) {
		yield(Database{}, fmt.Errorf("%w: a %T cannot list its databases", errors.ErrUnsupported, f))
	}
}

var (
	_ TenantLister = (*S3Replica)(nil)
	_ TenantLister = (*FileReplica)(nil)
)

// Tenants lists the databases that the bucket holds under Path; see
// TenantLister. It is one LIST for every 1,000 names of each directory that a
// variable of Path stands for, and one GET for each database. With {{path}},
// whose depth is not known, it is a LIST for each directory instead. It needs
// the right to list the bucket.
func (r *S3Replica) Tenants(ctx context.Context) iter.Seq2[Database, error] {
	return walkTenants(ctx, r.template, tree.Tree{
		Names: r.client.Dir,
		Metadata: func(ctx context.Context, dir string) ([]byte, error) {
			return r.client.Prefix(dir).ReadMetadata(ctx)
		},
	})
}

// Tenants lists the databases that the directory holds; see TenantLister.
func (r *FileReplica) Tenants(ctx context.Context) iter.Seq2[Database, error] {
	return walkTenants(ctx, r.template, tree.Tree{
		Names:  r.store.Names,
		Levels: "ltx",
		Metadata: func(ctx context.Context, dir string) ([]byte, error) {
			return r.store.Client(dir).ReadMetadata(ctx)
		},
	})
}

// walkTenants yields the databases of the prefixes that are found in a store.
func walkTenants(ctx context.Context, template *Template, store tree.Tree) iter.Seq2[Database, error] {
	store.Segments = template.segments()
	return func(yield func(Database, error) bool) {
		for found, err := range store.Walk(ctx) {
			var db Database
			if err == nil {
				db, err = TenantAt(template, found.Dir, found.Data)
				if err = opError("list", db.ID, cmp.Or(found.Err, err)); errors.Is(err, ErrRemoved) {
					continue
				}
			}
			if !yield(db, err) {
				return
			}
		}
	}
}

// segments are what the walk has to know of the template.
func (t *Template) segments() []tree.Segment {
	var segments []tree.Segment
	for _, s := range t.t.Segments() {
		segments = append(segments, tree.Segment{Literal: s.Literal, Path: s.Path, Matches: s.Matches})
	}
	return segments
}
