package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

func snapshotsCommand() *command {
	return &command{
		name:  "snapshots",
		args:  "[flags] ID",
		short: "list the whole states that the replica holds of a database",
		long: `
Each restores alone. Between two of them a database restores to every
transaction, or compacted range of them, that -all lists: the last TXID of a
file is what restore -txid takes, its time what -timestamp goes by.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addReplica(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			all := fs.Bool("all", false, "list every file, not only whole states")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 1, 1); err != nil {
					return err
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				db, err := src.database(ctx, e, *quiet, multidb.ID(args[0]))
				if err != nil {
					return err
				}
				return snapshots(ctx, e, src, db, *all, asJSON.use(e.stdout))
			}
		},
	}
}

// stored is one file of a replica.
type stored struct {
	Level     int       `json:"level"`
	Whole     bool      `json:"whole"`
	MinTXID   string    `json:"min_txid"`
	MaxTXID   string    `json:"max_txid"`
	Bytes     int64     `json:"bytes"`
	CreatedAt time.Time `json:"created_at"`
}

func snapshots(ctx context.Context, e *env, src *source, db multidb.Database, all, asJSON bool) error {
	files, err := multidb.ReplicaFiles(ctx, src.factory, db, true)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%w of %s", multidb.ErrNoBackup, show(string(db.ID)))
	}
	out := newRows(e.stdout, asJSON, "LEVEL", "FROM TXID", "TO TXID", "KIND", "SIZE", "CREATED")
	for _, f := range files {
		s := stored{f.Level, f.MinTXID == 1, f.MinTXID.String(), f.MaxTXID.String(), f.Size, f.CreatedAt}
		kind := "changes"
		if s.Whole {
			kind = "whole"
		} else if !all {
			continue
		}
		if err := out.add(s, fmt.Sprint(s.Level), s.MinTXID, s.MaxTXID, kind, showBytes(s.Bytes), showTime(s.CreatedAt)); err != nil {
			return err
		}
	}
	return out.end()
}
