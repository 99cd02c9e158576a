package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
)

func statusCommand() *command {
	return &command{
		name:  "status",
		args:  "[flags] [ID]",
		short: "say how the running replicate is, or one database",
		long: `
Ends with 3 if a database is not well: if it fails, is refused or fenced, has had
something to ship for longer than -max-lag, or has a backup that a drill could not
restore, or none has restored for drills.max-age. They are counted by the reason,
and the worst ten are named. So it
does if not all databases could be listed, as where a volume is not mounted.

Ends with 1 if no replicate serves the state directory, or if it does not answer
within -timeout: nothing is shipped then. What a replicate on another machine does
cannot be told.

A node of a cluster knows its own databases: of one that another node serves the command says
which, and ends with 4.

With -offline, -bucket or -dir, it tells of ID what the replica holds, and without ID
how many databases that is: this says nothing of any process.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addRunning(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			maxLag := fs.Duration("max-lag", time.Minute, "lag from which a database is not well")
			timeout := fs.Duration("timeout", 10*time.Second, "how long the running replicate may take to answer")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 1); err != nil {
					return err
				}
				if *maxLag < 0 {
					return usagef("-max-lag is %v; want 0 or more", *maxLag)
				}
				if *timeout <= 0 {
					return usagef("-timeout is %v; want a duration above zero", *timeout)
				}
				dir, err := s.runningDir(e)
				if err != nil {
					return err
				}
				if dir != "" {
					return askAlive(ctx, dir, *timeout, func(ctx context.Context, running *control.Client) error {
						return statusRunning(ctx, e, running, args, *maxLag, asJSON.use(e.stdout))
					})
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				return statusReplica(ctx, e, src, args, asJSON.use(e.stdout), *quiet)
			}
		},
	}
}

// fields writes v as JSON, or a table of names and values.
func (e *env) fields(asJSON bool, v any, cells ...string) error {
	out := newRows(e.stdout, asJSON)
	if asJSON {
		if err := out.add(v); err != nil {
			return err
		}
		return out.end()
	}
	var b strings.Builder
	width := 0
	for i := 0; i < len(cells); i += 2 {
		width = max(width, len(cells[i]))
	}
	for i := 0; i < len(cells); i += 2 {
		fmt.Fprintf(&b, "%-*s  %s\n", width, cells[i], cells[i+1])
	}
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}

func statusRunning(ctx context.Context, e *env, c *control.Client, args []string, maxLag time.Duration, asJSON bool) error {
	if len(args) == 0 {
		f, err := c.Fleet(ctx, maxLag)
		if err != nil {
			return err
		}
		return showFleet(e, f, asJSON)
	}
	t, err := c.Tenant(ctx, args[0])
	if errors.Is(err, control.ErrNotFound) {
		var ids []string
		for t, err := range c.Tenants(ctx) {
			if err != nil {
				return err
			}
			ids = append(ids, t.ID)
		}
		return unknown("with the ID", args[0], "the running replicate", ids)
	} else if err != nil {
		return err
	}
	txid := dash(t.TXID)
	if t.FleetLog {
		txid = fmt.Sprintf("%s durable, %s unpacked to the prefix", txid, dash(t.Unpacked))
	}
	err = e.fields(asJSON, t,
		"id", show(t.ID), "path", show(t.Path), "replica", dash(t.Replica), "tier", t.Tier, "txid", txid,
		"synced", showTime(t.SyncedAt), "last write", showTime(t.LastWrite), "lag", fmt.Sprintf("%s, %s", showDuration(t.Lag), showBytes(t.LagBytes)),
		"wal", fmt.Sprintf("%s of %s in use", showBytes(min(t.WALPos, t.WALSize)), showBytes(t.WALSize)), "state", state(t), "since", showTime(t.ErrSince),
		"local", showBytes(t.LocalBytes), "at the replica", showHeld(t), "proved", showProof(t))
	if err == nil && (t.Error != "" || t.Lag > maxLag || t.ProvedError != "") {
		return errPartly
	}
	return err
}

func showFleet(e *env, f control.Fleet, asJSON bool) error {
	health := "well"
	if !f.Healthy {
		var why []string
		if f.ScanError != "" {
			why = append(why, "not all databases could be listed")
		}
		if f.FleetLog != nil && f.FleetLog.Error != "" {
			why = append(why, "the fleet log")
		}
		if len(f.NotWell) > 0 {
			why = append(why, showNotWell(f.NotWell))
		}
		health = "not well: " + strings.Join(why, "; ")
	}
	cells := []string{
		"process", fmt.Sprintf("%d, since %s, version %s", f.PID, showTime(f.Started), f.Version),
		"replica", show(f.Replica), "health", health,
		"databases", fmt.Sprintf("%d: %d hot, %d warm, %d cold, %d failing, %d stopped, %d pending", f.Databases, f.Hot, f.Warm, f.Cold, f.Failing, f.Stopped, f.Pending),
		"listing", dash(f.ScanError), "errors", showReasons(f.Unwell), "ignored files", fmt.Sprint(f.Ignored),
		"shipped", fmt.Sprintf("%d transactions, %s, %d requests", f.Transactions, showBytes(f.Bytes), f.Requests),
		"lag", fmt.Sprintf("p50 %s, p99 %s", showDuration(f.LagP50), showDuration(f.LagP99)),
	}
	if f.Node != "" {
		cells = append(cells, "node", fmt.Sprintf("%s, with %d of 1,024 shards; `multidb nodes` has the others", show(f.Node), f.Shards))
	}
	cells = append(cells, "sizes", showSizes(f))
	if f.Drills != nil {
		cells = append(cells, "drills", showDrills(f.Drills))
	}
	if f.FleetLog != nil {
		cells = append(cells, "fleet log", showFleetLog(f.FleetLog))
	}
	err := e.fields(asJSON, f, cells...)
	if err != nil || f.Healthy {
		return err
	}
	if !asJSON && len(f.Worst) > 0 {
		out := newRows(e.stdout, false, "\nNOT WELL", "LAG", "SINCE", "STATE")
		for _, t := range f.Worst {
			if err := out.add(t, show(t.ID), showDuration(t.Lag), showTime(t.ErrSince), state(t)); err != nil {
				return err
			}
		}
		if err := out.end(); err != nil {
			return err
		}
	}
	return errPartly
}

// showFleetLog is what there is to know of a fleet log, in one line.
func showFleetLog(l *control.FleetLog) string {
	switch {
	case l.Error != "":
		return show(l.Error)
	case l.Epoch == 0:
		return fmt.Sprintf("%s, nothing written yet", show(l.Path))
	}
	return fmt.Sprintf("%s, epoch %d: %d files in %d objects, %s, %d queued; %d databases not unpacked, %s in %d objects",
		show(l.Path), l.Epoch, l.Files, l.Objects, showBytes(l.Bytes), l.Queued, l.Tails, showBytes(l.TailBytes), l.Pending)
}

// showReasons lists the reasons with the number of databases each.
func showReasons(n map[string]int64) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(n)) {
		all = append(all, fmt.Sprintf("%d %s", n[reason], reason))
	}
	return dash(strings.Join(all, ", "))
}

// held is what a replica has of one database.
type held struct {
	listed
	TXID      multidb.TXID `json:"txid"`
	Newest    time.Time    `json:"newest,omitzero"`
	Oldest    time.Time    `json:"oldest,omitzero"`
	Files     int          `json:"files"`
	Snapshots int          `json:"snapshots"`
	Bytes     int64        `json:"bytes"`
}

func statusReplica(ctx context.Context, e *env, src *source, args []string, asJSON, quiet bool) error {
	if len(args) == 0 {
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
		v := struct {
			Running   bool   `json:"running"`
			Replica   string `json:"replica"`
			Databases int    `json:"databases"`
		}{false, src.place, len(all)}
		if err := e.fields(asJSON, v, "process", "none asked", "replica", src.place, "databases", fmt.Sprint(len(all))); err != nil {
			return err
		}
		return e.partly(errs)
	}
	db, err := src.database(ctx, e, quiet, multidb.ID(args[0]))
	if err != nil {
		return err
	}
	files, err := multidb.ReplicaFiles(ctx, src.factory, db, false)
	if err != nil {
		return err
	}
	h := held{listed: listed{ID: db.ID, Path: db.Path, Replica: src.prefix(db)}, Files: len(files)}
	for _, f := range files {
		h.TXID, h.Bytes = max(h.TXID, f.MaxTXID), h.Bytes+f.Size
		if f.MinTXID == 1 {
			h.Snapshots++
		}
		if f.CreatedAt.After(h.Newest) {
			h.Newest = f.CreatedAt
		}
		if h.Oldest.IsZero() || f.CreatedAt.Before(h.Oldest) {
			h.Oldest = f.CreatedAt
		}
	}
	return e.fields(asJSON, h,
		"id", show(string(h.ID)), "path", show(dash(h.Path)), "replica", dash(h.Replica), "txid", h.TXID.String(),
		"oldest", showTime(h.Oldest), "newest", showTime(h.Newest),
		"files", fmt.Sprintf("%d, %d of them whole states, %s", h.Files, h.Snapshots, showBytes(h.Bytes)))
}
