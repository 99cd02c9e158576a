package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// LastObject is the newest object of a log.
type LastObject struct {
	Number uint64
	At     time.Time // by the store's clock
}

// Last lists the newest object of the log of an epoch; the zero value if there is none. One request,
// and another one for each 1,000 objects.
func Last(ctx context.Context, objects store.Objects, epoch uint64) (last LastObject, err error) {
	for o, err := range objects.List(ctx, format.LogDir(epoch), "") {
		if err != nil {
			return LastObject{}, fmt.Errorf("list the fleet log of epoch %d: %w", epoch, err)
		}
		if _, number, ok := format.ParseObjectName(o.Name); ok && number > last.Number {
			last = LastObject{number, o.Created}
		}
	}
	return last, nil
}
