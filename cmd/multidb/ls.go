package main

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
)

func lsCommand() *command {
	return &command{
		name:  "ls",
		args:  "[flags] [PATTERN]",
		short: "list the databases, of the running replicate or in the replica",
		long: `
PATTERN is compared with the IDs: * stands for anything but a slash, as in
project7/*. Quote it for the shell.

Where a replicate of the configuration runs, it says what it knows of each;
otherwise, and with -offline, -bucket or -dir, it is what the replica holds.
-sizes is for the first. The cost is that of its bytes in S3 Standard (0.023 USD
for a GB and month); requests are not in it.

A node of a cluster lists what it serves. -everywhere lists the databases of all nodes,
with who has them, which the running replicate reads from the bucket; -offline lists
what the bucket holds.

-watch lists them again every 2 seconds, or as in -watch=10s, in the same place on
a terminal. Elsewhere the lists follow each other, with -json one document each.

"evicted" is a database that the replica has all of, and this disk nothing. -removed
lists instead what a remove took out of service and is not erased yet, which the
running replicate knows.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addRunning(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			var sizes sizeFlag
			fs.Var(&sizes, "sizes", "list sizes and what they cost, the largest on this disk first; -sizes=replica: there")
			var watch watchFlag
			fs.Var(&watch, "watch", "list again every 2s, until Ctrl-C; -watch=10s: every 10 seconds")
			everywhere := fs.Bool("everywhere", false, "list the databases of all nodes of the cluster, with who has them")
			removed := fs.Bool("removed", false, "list what was removed and is not erased yet")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 1); err != nil {
					return err
				}
				if *removed && sizes != "" {
					return usagef("-removed and -sizes exclude each other")
				}
				if *everywhere && (*removed || sizes != "") {
					return usagef("-everywhere excludes -removed and -sizes, which are for one node")
				}
				pattern := strings.Join(args, "")
				match, err := selects(pattern)
				if err != nil {
					return err
				}
				running, err := s.dial(ctx, e)
				if err != nil {
					return err
				}
				if running != nil {
					defer running.Close()
					inJSON := asJSON.use(e.stdout)
					list := func(e *env) error { return lsRunning(ctx, e, running, pattern, match, sizes, inJSON) }
					if *everywhere {
						list = func(e *env) error { return lsEverywhere(ctx, e, running, pattern, match, inJSON) }
					} else if *removed {
						list = func(e *env) error { return lsRemoved(ctx, e, running, match, inJSON) }
					}
					if watch > 0 {
						return watch.repeat(ctx, e, inJSON, list)
					}
					return list(e)
				}
				if watch > 0 {
					return usagef("-watch is for a replicate that runs, which none does here: each list of the replica costs requests")
				}
				if *everywhere {
					return usagef("-everywhere is for a replicate that runs, which none does here; leave it out")
				}
				if *removed {
					return usagef("-removed is for a replicate that runs, which none does here; leave it out")
				}
				if sizes != "" {
					return usagef("-sizes is for a replicate that runs, which none does here; leave it out")
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				return lsReplica(ctx, e, src, pattern, match, asJSON.use(e.stdout), *quiet)
			}
		},
	}
}

func addQuiet(fs *flag.FlagSet) *bool {
	return fs.Bool("quiet", false, "show no progress")
}

func lsRunning(ctx context.Context, e *env, c *control.Client, pattern string, match func(multidb.ID) bool, sizes sizeFlag, asJSON bool) error {
	var all []control.Tenant
	var ids []string
	for t, err := range c.Tenants(ctx) {
		if err != nil {
			return err
		}
		ids = append(ids, t.ID)
		if match(multidb.ID(t.ID)) {
			all = append(all, t)
		}
	}
	if len(all) == 0 && pattern != "" {
		if _, err := c.Tenant(ctx, pattern); errors.Is(err, control.ErrNotOwner) {
			return err
		}
		return unknown("matches", pattern, "the running replicate", ids)
	}
	if sizes != "" {
		return lsSizes(e, all, sizes, asJSON)
	}
	slices.SortFunc(all, func(a, b control.Tenant) int { return strings.Compare(a.ID, b.ID) })
	out := newRows(e.stdout, asJSON, "ID", "TIER", "TXID", "LAG", "WAL", "LAST WRITE", "STATE")
	for _, t := range all {
		if err := out.add(t, show(t.ID), t.Tier, dash(t.TXID), showDuration(t.Lag), showBytes(t.WALSize),
			showTime(t.LastWrite), state(t)); err != nil {
			return err
		}
	}
	return out.end()
}

// lsEverywhere lists the databases of all nodes, also those that were removed.
func lsEverywhere(ctx context.Context, e *env, c *control.Client, pattern string, match func(multidb.ID) bool, asJSON bool) error {
	var all []control.Placed
	var ids []string
	for p, err := range c.Everywhere(ctx) {
		if err != nil {
			return err
		}
		ids = append(ids, p.ID)
		if match(multidb.ID(p.ID)) {
			all = append(all, p)
		}
	}
	if len(all) == 0 && pattern != "" {
		return unknown("matches", pattern, "the cluster", ids)
	}
	slices.SortFunc(all, func(a, b control.Placed) int { return strings.Compare(a.ID, b.ID) })
	out := newRows(e.stdout, asJSON, "ID", "NODE", "URL", "STATE")
	for _, p := range all {
		state := "in service"
		if !p.RemovedAt.IsZero() {
			state = "removed, erased after " + showTime(p.EraseAfter)
		}
		if err := out.add(p, show(p.ID), showDash(p.Node), showDash(p.URL), state); err != nil {
			return err
		}
	}
	return out.end()
}

// lsRemoved lists what is out of service.
func lsRemoved(ctx context.Context, e *env, c *control.Client, match func(multidb.ID) bool, asJSON bool) error {
	out := newRows(e.stdout, asJSON, "ID", "REMOVED", "ERASED AFTER", "PATH")
	for r, err := range c.Removed(ctx) {
		if err != nil {
			return err
		}
		if !match(multidb.ID(r.ID)) {
			continue
		}
		if err := out.add(r, show(r.ID), showTime(r.RemovedAt), showTime(r.EraseAfter), show(r.Path)); err != nil {
			return err
		}
	}
	return out.end()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func state(t control.Tenant) string {
	switch {
	case t.Error != "":
		return show(t.Error)
	case !t.Pending.IsZero():
		return "pending since " + showTime(t.Pending)
	case t.Evicted:
		return "ok, evicted"
	}
	return "ok"
}

// listed is a database in a replica.
type listed struct {
	ID      multidb.ID `json:"id"`
	Path    string     `json:"path,omitempty"` // on the machine that wrote it
	Replica string     `json:"replica,omitempty"`
}

func lsReplica(ctx context.Context, e *env, src *source, pattern string, match func(multidb.ID) bool, asJSON, quiet bool) error {
	p := newProgress(e.stderr, quiet, "databases", nil)
	all, errs := src.tenants(ctx, p)
	p.end()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(all) == 0 && len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(all) == 0 {
		if err := src.nothing(e); err != nil {
			return err
		}
	}
	out, found := newRows(e.stdout, asJSON, "ID", "REPLICA", "PATH"), 0
	for _, db := range all {
		if !match(db.ID) {
			continue
		}
		found++
		l := listed{ID: db.ID, Path: db.Path, Replica: src.prefix(db)}
		if err := out.add(l, show(string(db.ID)), dash(show(l.Replica)), show(dash(l.Path))); err != nil {
			return err
		}
	}
	if found == 0 && pattern != "" {
		errs = append(errs, unknown("matches", pattern, src.place, idsOf(all)))
		return errors.Join(errs...)
	}
	if err := out.end(); err != nil {
		return err
	}
	return e.partly(errs)
}

// prefix is the database's place, as far as the replica tells it.
func (s *source) prefix(db multidb.Database) string {
	if p, ok := s.factory.(multidb.ReplicaPrefixer); ok {
		if prefix, err := p.Prefix(db); err == nil {
			return prefix
		}
	}
	return ""
}

// partly reports errors about single databases.
func (e *env) partly(errs []error) error {
	for _, err := range errs {
		e.note("%s", strings.TrimPrefix(err.Error(), "multidb: "))
	}
	if len(errs) > 0 {
		return errPartly
	}
	return nil
}
