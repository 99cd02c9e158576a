package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// elsewhere is what a former log has of a prefix of which the shard did not come with it (journal.Taken): it is not
// unpacked here. Its owner may have to, so that the log is not finished before that is known to have been done.
type elsewhere struct {
	max   ltx.TXID
	since time.Time
	came  bool // its shard came since
}

func (l *Log) elsewhereLocked(epoch uint64, r format.Record) {
	all := l.elsewhere[epoch]
	if all == nil {
		all = map[string]*elsewhere{}
		l.elsewhere[epoch] = all
	}
	if all[r.Prefix] == nil {
		all[r.Prefix] = &elsewhere{since: l.cfg.Now()}
	}
	all[r.Prefix].max = max(all[r.Prefix].max, ltx.TXID(r.Max))
}

// Look finds out whether prefixes have what former logs have of shards of others, or that was erased, so that
// these logs can be finished. Mostly their owners are faster, so the first look is an unpacking interval after
// the take-over. It makes the requests of a listing for each prefix, and, where that has less, those of a reader; a
// log of which one prefix is not done is not looked at any further, as it stays.
func (l *Log) Look(ctx context.Context, prefix func(prefix string) (litestream.ReplicaClient, error)) error {
	due := map[uint64]map[string]ltx.TXID{}
	l.mu.Lock()
	now := l.cfg.Now()
	for epoch, prefixes := range l.elsewhere {
		due[epoch] = map[string]ltx.TXID{}
		for name, f := range prefixes {
			if now.Sub(f.since) >= l.cfg.UnpackInterval {
				due[epoch][name] = f.max
			}
		}
	}
	l.mu.Unlock()
	var errs []error
	for epoch, prefixes := range due {
		for _, name := range slices.Sorted(maps.Keys(prefixes)) {
			over, err := l.over(ctx, epoch, name, prefixes[name], prefix)
			if err != nil {
				errs = append(errs, fmt.Errorf("look at %q: %w", name, err))
			}
			if !over {
				break
			}
			l.mu.Lock()
			delete(l.elsewhere[epoch], name)
			l.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// over reports whether nobody has to unpack what the log of an epoch has of a prefix.
func (l *Log) over(ctx context.Context, epoch uint64, name string, last ltx.TXID, prefix func(prefix string) (litestream.ReplicaClient, error)) (bool, error) {
	inner, err := prefix(name)
	if err != nil {
		return false, err
	}
	files, err := store.Files(ctx, inner, false)
	if err != nil {
		return false, err
	}
	if has, _ := lastOf(files); has >= last {
		return true, nil
	}
	reader, err := ReadTenant(ctx, l.cfg.Objects, name, false) // without what was erased
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(reader.tail(name), func(f *tailFile) bool { return f.place.epoch == epoch }), nil
}

// Quiet waits until nobody unpacks prefixes.
func (l *Log) Quiet(ctx context.Context, in func(prefix string) bool) error {
	var all []string
	l.mu.Lock()
	for prefix := range l.excluded {
		if in(prefix) {
			all = append(all, prefix)
		}
	}
	l.mu.Unlock()
	for _, prefix := range all {
		release, err := l.exclude(ctx, prefix)
		if err != nil {
			return err
		}
		release()
	}
	return nil
}
