package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// lacking are the keys of the notes that were not found, or not as they were written.
func lacking(known, found map[string]string) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if text, ok := found[key]; !ok || text != known[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// verify looks for every note that was answered with 200. The error says which are missing.
func (p *play) verify(ctx context.Context, replica multidb.ReplicaFactory, in node.Place, dir string) error {
	say(p.out, "\nIs every note there that was answered with 200?\n")
	errs := []error{lostError("to a request of the run", p.tally.lost)}
	served, total := p.ask(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	say(p.out, "  through the service:        %s\n", verdict(total, len(p.tally.tenants), served))
	errs = append(errs, lostError("through the service", served))
	restored, took, err := p.restore(ctx, replica, in, dir)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	say(p.out, "  restored from the bucket:   %s, in %s\n", verdict(total, len(p.tally.tenants), restored), term.Duration(took))
	return errors.Join(append(errs, lostError("in what was restored from the bucket", restored))...)
}

func verdict(total, tenants int, lost []string) string {
	if len(lost) > 0 {
		return fmt.Sprintf("NOT ALL, %s lack something", term.Plural(len(lost), "tenant"))
	}
	return fmt.Sprintf("all %s, of %s", term.Plural(total, "note"), term.Plural(tenants, "tenant"))
}

// lostError is nil if nothing is lost.
func lostError(where string, lost []string) error {
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("notes that were answered with 200 are missing %s: %s (%s in all)", where, lost[0], term.Plural(len(lost), "tenant"))
}

// ask compares what the service has with what the clients know, and counts that.
func (p *play) ask(ctx context.Context) (lost []string, total int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	apart := newTally(len(p.tally.tenants)) // what is seen now does not count
	apart.begin(period{}, time.Now())
	l := newLoad(p.nodes, apart)
	defer l.end()
	for i := range p.tally.tenants {
		known := p.tally.notes(i)
		total += len(known)
		found, err := l.list(ctx, i)
		lost = append(lost, compared(i, known, found, err)...)
	}
	return lost, total
}

func compared(tenant int, known, found map[string]string, err error) []string {
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", tenantName(tenant), err)}
	}
	if gone := lacking(known, found); len(gone) > 0 {
		return []string{fmt.Sprintf("%s: %d of %d, as %q", tenantName(tenant), len(gone), len(known), gone[0])}
	}
	return nil
}

// restore makes every tenant's database of what the bucket has, while the nodes run, and compares
// it with what the clients know.
func (p *play) restore(ctx context.Context, replica multidb.ReplicaFactory, in node.Place, dir string) (lost []string, took time.Duration, err error) {
	reader, err := multidb.ReadFleetLog(replica, in.Log())
	if err != nil {
		return nil, 0, err
	}
	dir = filepath.Join(dir, "restored")
	began := time.Now()
	if _, err := multidb.RestoreAllFrom(ctx, reader, multidb.RestoreAllOptions{Dir: dir}); err != nil {
		return nil, 0, err
	}
	took = time.Since(began)
	for i := range p.tally.tenants {
		known := p.tally.notes(i)
		if len(known) == 0 { // it may have no database
			continue
		}
		found, err := notesOf(ctx, filepath.Join(dir, tenantName(i)+".db"))
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		lost = append(lost, compared(i, known, found, err)...)
	}
	return lost, took, nil
}

func notesOf(ctx context.Context, path string) (all map[string]string, err error) {
	db, err := tenant.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return node.Notes(ctx, db)
}
