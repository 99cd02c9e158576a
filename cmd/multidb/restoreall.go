package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/multidb-go/multidb"
)

func restoreAllCommand() *command {
	return &command{
		name:  "restore-all",
		args:  "[flags] -o DIR [PATTERN]",
		short: "restore every database of the replica into a directory",
		long: `
It needs the replica and nothing else. Each database goes to its ID and ".db"
below DIR: project0/db0 to DIR/project0/db0.db. What a file name should not have
is written as %XX. PATTERN is as for ls.

Nothing is overwritten: what exists is taken to be done and left alone, so the
same command goes on where it was after Ctrl-C, a crash or failures. What fails
is named and the rest goes on; the exit code is then 3. A full disk ends it.

-dry-run makes nothing and says what would be restored, from how many bytes of the
replica. A database without a backup fails, as it would.
` + integrityHelp,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addReplica(fs)
			r := &restoreAll{}
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			fs.StringVar(&r.dir, "o", "", "`DIR` to restore into; required, made if it is missing")
			r.at.add(fs)
			check := addIntegrityCheck(fs)
			fs.IntVar(&r.parallel, "parallel", 16, "restore `N` at once")
			fs.BoolVar(&r.dryRun, "dry-run", false, "make nothing; say what would be restored, and where to")
			return func(ctx context.Context, e *env, args []string) (err error) {
				if err := operands(args, 0, 1); err != nil {
					return err
				}
				switch {
				case r.dir == "":
					return usagef("-o DIR is missing")
				case r.parallel < 1 || r.parallel > 1000:
					return usagef("-parallel is %d; want 1 to 1000", r.parallel)
				}
				r.pattern = strings.Join(args, "")
				if _, err := selects(r.pattern); err != nil {
					return err
				}
				if r.src, err = s.open(e); err != nil {
					return err
				}
				defer r.src.close()
				r.e, r.json, r.quiet, r.check = e, asJSON.use(e.stdout), *quiet, *check
				return r.run(ctx)
			}
		},
	}
}

// restoreAll is one run.
type restoreAll struct {
	e        *env
	src      *source
	dir      string
	at       timeFlag
	parallel int
	dryRun   bool
	pattern  string
	json     bool
	quiet    bool
	check    multidb.IntegrityCheck
	progress *progress
	ctx      context.Context // of the run, for what its callbacks ask of the replica

	out    *rows // nil: none are written
	unread bool  // nobody reads standard output any more
}

// outcome is what became of a database.
type outcome struct {
	ID     multidb.ID            `json:"id"`
	Path   string                `json:"path,omitempty"`
	Status multidb.RestoreStatus `json:"status"` // restored, exists, planned or failed
	Error  string                `json:"error,omitempty"`
	Bytes  int64                 `json:"bytes,omitempty"` // that a dry run would read
	// Findings of the check that are not damage.
	Warnings []string `json:"warnings,omitempty"`
}

func (r *restoreAll) run(ctx context.Context) error {
	if r.json {
		r.out = newRows(r.e.stdout, true)
	} else if r.dryRun {
		r.out = newRows(r.e.stdout, false, "ID", "BYTES", "PATH")
	}
	p := newProgress(r.e.stderr, r.quiet, "listing the databases", nil)
	all, errs := r.src.tenants(ctx, p)
	p.end()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	opt := multidb.RestoreAllOptions{
		Dir: r.dir, Pattern: r.pattern, Parallel: r.parallel, IntegrityCheck: r.check, DryRun: r.dryRun,
		Timestamp: r.at.Time, Place: r.src.place, OnProgress: r.tell,
		Databases: func(yield func(multidb.Database, error) bool) {
			for _, db := range all {
				if !yield(db, nil) {
					return
				}
			}
			for _, err := range errs {
				if !yield(multidb.Database{}, err) {
					return
				}
			}
		},
	}
	if r.at.ago != "" {
		ago, err := time.ParseDuration(r.at.ago)
		if err != nil {
			return err
		}
		opt.Timestamp, opt.Ago = time.Time{}, ago
	}
	what := "restored"
	if r.dryRun {
		what = "looked at"
	}
	begin := time.Now()
	r.ctx, r.progress = ctx, newProgress(r.e.stderr, r.quiet, what, r.src.bytesIn())
	res, err := multidb.RestoreAllFrom(ctx, r.src.factory, opt)
	r.progress.end()
	return r.summary(ctx, res, err, idsOf(all), time.Since(begin))
}

// tell writes what became of a database.
func (r *restoreAll) tell(p multidb.RestoreAllProgress) {
	r.progress.total.Store(int64(p.Todo))
	if p.Status == "" {
		return
	}
	o := outcome{ID: p.Database.ID, Path: p.Path, Status: p.Status, Bytes: p.Bytes, Warnings: p.Warnings}
	for _, w := range o.Warnings {
		r.progress.say("multidb: warning: %s: %s", show(string(o.ID)), show(w))
	}
	if p.Todo > 0 && p.Status != multidb.RestoreExists {
		r.progress.done.Add(1)
	}
	if p.Err != nil {
		o.Error = reason(explainLone(r.ctx, r.src, p.Database, p.Err))
		r.progress.say("multidb: %s: %s", show(string(o.ID)), show(o.Error))
	}
	if r.out == nil || r.unread || !r.json && p.Status != multidb.RestorePlanned {
		return
	}
	size := "unknown"
	if o.Bytes > 0 {
		size = showBytes(o.Bytes)
	}
	err := r.out.add(o, show(string(o.ID)), size, show(o.Path))
	if err == nil && r.json {
		err = r.out.end() // flushed at once: a reported database is done
	}
	if err != nil {
		r.unread = true // restoring continues all the same
	}
}

// summary says how it went. With JSON it goes to standard error, so that it is not
// taken for a record.
func (r *restoreAll) summary(ctx context.Context, res multidb.RestoreAllResult, err error, ids []string, took time.Duration) error {
	if errors.Is(err, multidb.ErrNotFound) && r.pattern != "" && res == (multidb.RestoreAllResult{}) {
		return unknown("matches", r.pattern, r.src.place, ids)
	}
	var all *multidb.AllError
	if err != nil && !errors.As(err, &all) {
		return err // it did not begin
	}
	w := r.e.stdout
	if r.json {
		w = r.e.stderr
	} else if r.out != nil && !r.unread {
		if err := r.out.end(); err != nil && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	s := fmt.Sprintf("%d restored", res.Restored)
	if r.dryRun {
		s = fmt.Sprintf("%d would be restored", res.Planned)
	}
	if res.Existed > 0 {
		s += fmt.Sprintf(", %d existed", res.Existed)
	}
	s += fmt.Sprintf(", %d failed", res.Failed)
	if left := r.progress.total.Load() - r.progress.done.Load(); all != nil && all.Stopped != nil && left > 0 {
		s += fmt.Sprintf(", %d left", left)
	}
	if res.Restored > 0 && took > 0 {
		s += fmt.Sprintf("; %.1f databases/s, %s", float64(res.Restored)/took.Seconds(), showDuration(took))
	}
	if _, err := fmt.Fprintln(w, s); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	switch {
	case all != nil && all.Stopped != nil && ctx.Err() != nil:
		return fmt.Errorf("%w: run the same command to go on", context.Cause(ctx))
	case all != nil && all.Stopped != nil:
		return all.Stopped
	case res.Failed == 0:
		return nil
	case res.Restored+res.Existed+res.Planned == 0:
		return errors.New("every database failed")
	}
	return errPartly
}
