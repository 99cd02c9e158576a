package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

func restoreCommand() *command {
	return &command{
		name:  "restore",
		args:  "[flags] ID -o PATH",
		short: "restore one database to a new file",
		long: `
PATH must not exist; directories that are missing above it are made. The file
appears there only when it is complete, checked and on disk. It may be done at any
time, beside a replicate.

-o - writes the database to standard output, and nothing else there: it is
restored below -tmp and checked before the first byte.
` + integrityHelp,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addReplica(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			out := fs.String("o", "", "`PATH` of the file to make, or - for standard output; required")
			tmp := fs.String("tmp", "", "`DIR` for the database before it goes to standard output; default: $TMPDIR, else /tmp")
			var at timeFlag
			at.add(fs)
			check := addIntegrityCheck(fs)
			txid := fs.String("txid", "", "restore the state at this transaction, in hexadecimal as snapshots\nshows it")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 1, 1); err != nil {
					return err
				}
				opt := multidb.RestoreOptions{OutputPath: *out, Timestamp: at.Time, IntegrityCheck: *check}
				if *out == "" {
					return usagef("-o PATH is missing")
				}
				if *txid != "" {
					n, err := strconv.ParseUint(*txid, 16, 64)
					if err != nil || n == 0 {
						return usagef("-txid is %q; want a number above zero in hexadecimal", *txid)
					}
					opt.TXID = multidb.TXID(n)
				}
				if opt.TXID != 0 && !opt.Timestamp.IsZero() {
					return usagef("-txid and -timestamp exclude each other")
				}
				switch {
				case *out == toStdout && asJSON.set && asJSON.on:
					return usagef("-o - excludes -json: the database is all that standard output gets")
				case *out == toStdout && isTerminal(e.stdout):
					return usagef("-o - writes a database, which is no text for a terminal: give a path, or write -o - > FILE")
				case *out != toStdout && *tmp != "":
					return usagef("-tmp is for -o -; other files are made beside PATH")
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				if *out == toStdout {
					return restoreToStdout(ctx, e, src, multidb.ID(args[0]), opt, *tmp, *quiet)
				}
				return restore(ctx, e, src, multidb.ID(args[0]), opt, asJSON.use(e.stdout), *quiet)
			}
		},
	}
}

// timeFlag is -timestamp.
type timeFlag struct {
	time.Time
	ago string // as it was given, if that was how long ago
}

func (f *timeFlag) add(fs *flag.FlagSet) {
	fs.Var(f, "timestamp", "restore the newest state written before this `TIME`: 2026-01-31T12:00:00Z,\nor how long ago: 2h30m")
}

func (f *timeFlag) String() string {
	if f == nil || f.IsZero() {
		return ""
	}
	return f.Format(time.RFC3339Nano)
}

func (f *timeFlag) Set(s string) error {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		f.Time, f.ago = time.Now().Add(-d), s
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() {
		return errors.New("want 2026-01-31T12:00:00Z, with a time zone, or how long ago as 2h30m")
	}
	f.Time, f.ago = t, ""
	return nil
}

// restored is what restore reports.
type restored struct {
	ID      multidb.ID `json:"id"`
	Path    string     `json:"path"`
	Bytes   int64      `json:"bytes"`
	Seconds float64    `json:"seconds"`
	// Findings of the check that are not damage.
	Warnings []string `json:"warnings,omitempty"`
}

func restore(ctx context.Context, e *env, src *source, id multidb.ID, opt multidb.RestoreOptions, asJSON, quiet bool) error {
	// If the path is taken, fail before searching the replica.
	if _, err := os.Lstat(opt.OutputPath); err == nil {
		return fmt.Errorf("%w: %s", multidb.ErrExists, opt.OutputPath)
	}
	db, err := src.database(ctx, e, quiet, id)
	if err != nil {
		return err
	}
	begin := time.Now()
	warnings, err := restoreShown(ctx, e, src, db, opt, quiet)
	if err != nil {
		return err
	}
	info, err := os.Stat(opt.OutputPath)
	if err != nil {
		return err
	}
	r := restored{ID: id, Path: opt.OutputPath, Bytes: info.Size(), Seconds: time.Since(begin).Seconds(), Warnings: warnings}
	if abs, err := filepath.Abs(r.Path); err == nil {
		r.Path = abs
	}
	if asJSON {
		return e.fields(true, r)
	}
	_, err = fmt.Fprintf(e.stdout, "restored %s to %s: %s in %s\n", show(string(id)), show(r.Path), showBytes(r.Bytes),
		showDuration(time.Since(begin)))
	return err
}

// restoreShown restores a database, with its progress and its warnings on standard error.
func restoreShown(ctx context.Context, e *env, src *source, db multidb.Database, opt multidb.RestoreOptions, quiet bool) (warnings []string, err error) {
	id := show(string(db.ID))
	p := &progress{w: e.stderr, what: "restoring " + id}
	if read := src.bytesIn(); read != nil && !quiet {
		files, err := multidb.ReplicaFiles(ctx, src.factory, db, false)
		if err != nil {
			return nil, err
		}
		before := read()
		p.bytes, p.size = func() int64 { return read() - before }, planSize(files, opt)
	}
	showProgress(p, quiet)
	defer p.end()
	opt.Warn = func(w string) {
		warnings = append(warnings, w)
		p.say("multidb: warning: %s: %s", id, show(w))
	}
	err = multidb.RestoreFrom(ctx, src.factory, db, opt)
	return warnings, err
}

// planSize estimates how many bytes a restore reads: the newest whole state, and the
// files that continue it in the longest steps. It is for the progress only.
func planSize(files []*ltx.FileInfo, opt multidb.RestoreOptions) int64 {
	var size int64
	for at := multidb.TXID(0); ; {
		var next *ltx.FileInfo
		for _, f := range files {
			if opt.TXID != 0 && f.MaxTXID > opt.TXID || !opt.Timestamp.IsZero() && !f.CreatedAt.Before(opt.Timestamp) {
				continue
			}
			if f.MinTXID <= at+1 && f.MaxTXID > at && (next == nil || f.MaxTXID > next.MaxTXID) {
				next = f
			}
		}
		if next == nil {
			return size
		}
		at, size = next.MaxTXID, size+next.Size
	}
}

// reason returns an error in one line, without what the line about the database
// already says.
func reason(err error) string {
	var of *multidb.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
