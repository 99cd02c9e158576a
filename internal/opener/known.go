package opener

import (
	"context"

	"github.com/multidb-go/multidb/internal/registry"
)

// LeaseKnown is Lease for a database that is known: one that has gone meanwhile is not
// made anew, it is ErrNotFound.
func (o *Opener) LeaseKnown(ctx context.Context, id string) (Lease, error) {
	for {
		h, err := o.fleet.Hold(id, nil)
		switch {
		case err != nil:
			return Lease{}, err
		case h.Unread:
			if err := o.conductor.CheckHeader(ctx, h.Entry); err != nil {
				return Lease{}, err
			}
			continue
		case h.Entry == nil:
			return Lease{}, registry.ErrNotFound
		case h.Missing:
			o.pool.Evict(h.Entry)
		}
		defer o.conductor.LetGo(h.Entry)
		return o.leased(ctx, h.Entry)
	}
}
