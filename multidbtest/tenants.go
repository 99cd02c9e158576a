package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/multidb-go/multidb"
)

var _ multidb.TenantLister = (*Replica)(nil)

// Tenants lists the databases that the replica holds. A fault on
// OpReadMetadata makes the listing of one database fail.
func (r *Replica) Tenants(ctx context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		if r.err != nil {
			yield(multidb.Database{}, r.err)
			return
		}
		for _, prefix := range r.Prefixes() {
			if err := ctx.Err(); err != nil {
				yield(multidb.Database{}, err)
				return
			}
			db, err := r.tenant(ctx, prefix)
			if errors.Is(err, multidb.ErrRemoved) {
				continue
			}
			if !yield(db, err) {
				return
			}
		}
	}
}

func (r *Replica) tenant(ctx context.Context, prefix string) (multidb.Database, error) {
	var data []byte
	op := Operation{Op: OpReadMetadata, Prefix: prefix, Level: AllLevels}
	err := r.doSized(ctx, &op, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s := r.spaces[prefix]; s != nil && s.metadata != nil {
			data = bytes.Clone(s.metadata)
			op.Size = int64(len(data))
		}
		return nil
	})
	db, bad := multidb.TenantAt(r.template, prefix, data)
	if err == nil {
		err = bad
	}
	if err != nil {
		err = &multidb.Error{Op: "list", ID: db.ID, Err: err}
	}
	return db, err
}
