package multidb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/reading"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/s3"
)

// ReadFleetLog returns a factory that reads what f keeps together with what a fleet log
// has that the prefixes lack: for RestoreFrom, ReplicaFiles and ListTenants, also beside
// the Managers that write it. A log is read once, at the first use, for all databases, and
// is as it was then: to see what came later, call ReadFleetLog again.
//
// Path is that of FleetLogConfig. If it is empty, the fleet log of a database is the one
// that its metadata.json names; if that names none, as before the first unpacking, it is
// the one at the default path, if there is one.
//
// The factory has the optional interfaces of f, as far as they read. Its clients write
// nothing. The error wraps ErrInvalidOption: f is no ReplicaObjects, or the path is none.
func ReadFleetLog(f ReplicaFactory, path string) (ReplicaFactory, error) {
	r, ok := newFleetReader(f, path)
	if !ok {
		return nil, fmt.Errorf("%w: read a fleet log: a %T keeps no plain objects", ErrInvalidOption, f)
	}
	if path != "" {
		if why := reading.BadDir(path); why != "" {
			return nil, fmt.Errorf("%w: read a fleet log: the path is %q; %s", ErrInvalidOption, path, why)
		}
	}
	if path == "" {
		r.logs.Default = reading.DefaultDir
		r.logs.Denied = func(err error) bool { return errors.Is(err, s3.ErrAccessDenied) }
	}
	return r, nil
}

// IgnoreFleetLog returns a factory for RestoreFrom, ReplicaFiles and ListTenants that reads
// what the prefixes of f have, as litestream's own restore does, whatever fleet log
// metadata.json names: for when that log is damaged.
func IgnoreFleetLog(f ReplicaFactory) ReplicaFactory {
	r, ok := newFleetReader(f, "")
	if !ok {
		return f
	}
	r.logs = nil
	return r
}

// fleetReader is what ReadFleetLog returns.
type fleetReader struct {
	ReplicaObjects
	f    ReplicaFactory
	path string        // "": metadata.json names it
	logs *reading.Logs // nil: they are left out
}

func newFleetReader(f ReplicaFactory, path string) (*fleetReader, bool) {
	objects, ok := f.(ReplicaObjects)
	if !ok {
		return nil, false
	}
	return &fleetReader{objects, f, path, &reading.Logs{Open: func(dir string) (store.Objects, error) {
		o, err := objects.Objects(dir)
		return innerObjects{o}, err
	}}}, true
}

// readingClient returns a client that reads a database of a factory with its fleet log,
// which is at path or, if that is empty, where metadata.json says.
func readingClient(f ReplicaFactory, path string, db Database) (litestream.ReplicaClient, error) {
	if _, ok := f.(*fleetReader); !ok {
		if r, ok := newFleetReader(f, path); ok {
			f = r
		}
	}
	return f.ReplicaClient(db)
}

// ReplicaClient implements ReplicaFactory.
func (r *fleetReader) ReplicaClient(db Database) (litestream.ReplicaClient, error) {
	client, err := r.f.ReplicaClient(db)
	if err != nil || r.logs == nil {
		return client, err
	}
	dir, err := r.Dir(db)
	if err != nil {
		return nil, err
	}
	return r.logs.Client(client, cmp.Or(r.path, db.fleetLog), dir), nil
}

// Prefix implements ReplicaPrefixer.
func (r *fleetReader) Prefix(db Database) (string, error) {
	if p, ok := r.f.(ReplicaPrefixer); ok {
		return p.Prefix(db)
	}
	return r.Dir(db)
}

// Vars implements ReplicaVars.
func (r *fleetReader) Vars() []string {
	if v, ok := r.f.(ReplicaVars); ok {
		return v.Vars()
	}
	return nil
}

// RequestStats implements ReplicaStats.
func (r *fleetReader) RequestStats() RequestStats {
	if s, ok := r.f.(ReplicaStats); ok {
		return s.RequestStats()
	}
	return RequestStats{}
}

// Check implements ReplicaChecker.
func (r *fleetReader) Check(ctx context.Context) error {
	if c, ok := r.f.(ReplicaChecker); ok {
		return c.Check(ctx)
	}
	return nil
}

// CloseIdleConnections closes those of the factory.
func (r *fleetReader) CloseIdleConnections() {
	if c, ok := r.f.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Tenants implements TenantLister: those of the factory, then those that only a log has.
func (r *fleetReader) Tenants(ctx context.Context) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		seen, logs := map[string]bool{}, map[string]bool{}
		for db, err := range ListTenants(ctx, r.f) {
			if dir, err := r.Dir(db); err == nil {
				seen[dir] = true
			}
			if logs[db.fleetLog] = true; !yield(db, err) {
				return
			}
		}
		if r.logs == nil {
			return
		}
		if logs[r.logs.Default] = true; r.path != "" {
			logs = map[string]bool{r.path: true}
		}
		delete(logs, "")
		for _, path := range slices.Sorted(maps.Keys(logs)) {
			log, err := r.logs.Read(ctx, path)
			if err != nil {
				if !yield(Database{}, err) || ctx.Err() != nil {
					return
				}
				continue
			} else if log == nil {
				continue
			}
			for _, dir := range log.Prefixes() {
				db, err := r.DatabaseAt(dir)
				if err != nil || seen[dir] { // of another template
					continue
				}
				seen[dir], db.fleetLog = true, path
				if !yield(db, nil) {
					return
				}
			}
		}
	}
}
