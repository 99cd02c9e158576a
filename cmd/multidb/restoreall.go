package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
				if r.match, err = selects(r.pattern); err != nil {
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
	pattern  string
	match    func(multidb.ID) bool
	json     bool
	quiet    bool
	check    multidb.IntegrityCheck
	abs      string // dir
	work     *workDir
	progress *progress

	mu                       sync.Mutex
	out                      *rows
	unread                   bool // nobody reads standard output any more
	restored, exists, failed int
	fatal                    error // ended the run
}

// job is one database to be made.
type job struct {
	db  multidb.Database
	out string
}

// outcome is what became of a database.
type outcome struct {
	ID     multidb.ID `json:"id"`
	Path   string     `json:"path,omitempty"`
	Status string     `json:"status"` // restored, exists or failed
	Error  string     `json:"error,omitempty"`
	// Findings of the check that are not damage.
	Warnings []string `json:"warnings,omitempty"`
}

func (r *restoreAll) run(ctx context.Context) (err error) {
	if r.abs, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(r.abs, 0o755); err != nil {
		return err
	}
	if r.work, err = openWorkDir(r.abs, plan{Source: r.src.place, Timestamp: r.at.String(), Ago: r.at.ago}); err != nil {
		return err
	}
	done := false
	defer func() { err = errors.Join(err, r.work.close(done)) }()
	if at := r.work.plan.Timestamp; at != "" {
		if err := r.at.Set(at); err != nil {
			return fmt.Errorf("%s: %w", r.work.path, err)
		}
	}
	if r.json {
		r.out = newRows(r.e.stdout, true)
	}
	jobs, err := r.list(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	r.all(ctx, jobs)
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	err = r.summary(ctx, time.Since(begin))
	// After a failure the next run continues with the same plan.
	done = err == nil
	return err
}

// list finds the jobs to do, and reports the databases that cannot be restored.
func (r *restoreAll) list(ctx context.Context) ([]job, error) {
	p := newProgress(r.e.stderr, r.quiet, "listing the databases", nil)
	all, errs := r.src.tenants(ctx, p)
	p.end()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		return nil, fmt.Errorf("%w: there is no database at %s", multidb.ErrNoBackup, r.src.place)
	}
	for _, err := range errs {
		var of *multidb.Error
		if errors.As(err, &of) && of.ID != "" && !r.match(of.ID) {
			continue
		} else if of != nil {
			r.tell(outcome{ID: of.ID, Status: "failed", Error: reason(err)})
		} else {
			r.tell(outcome{Status: "failed", Error: reason(err)})
		}
	}
	var jobs []job
	taken := map[string]multidb.ID{}
	found := 0
	for _, db := range all {
		if !r.match(db.ID) {
			continue
		}
		found++
		j := job{db, filepath.Join(r.abs, outPath(db.ID))}
		if _, twice := taken[j.out]; twice {
			r.tell(outcome{ID: db.ID, Path: j.out, Status: "failed",
				Error: "a second prefix has this ID: " + r.src.prefix(db) + "; restore it by -path"})
			continue
		}
		taken[j.out] = db.ID
		if _, err := os.Lstat(j.out); err == nil {
			r.tell(outcome{ID: db.ID, Path: j.out, Status: "exists"})
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			r.tell(outcome{ID: db.ID, Path: j.out, Status: "failed", Error: reason(err)})
			continue
		}
		jobs = append(jobs, j)
	}
	if found == 0 && r.pattern != "" {
		return nil, unknown("matches", r.pattern, r.src.place, idsOf(all))
	}
	return jobs, nil
}

// all does the jobs, some at once, until they are done or ctx ends.
func (r *restoreAll) all(ctx context.Context, jobs []job) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.progress = newProgress(r.e.stderr, r.quiet, "restored", r.src.bytesIn())
	r.progress.total.Store(int64(len(jobs)))
	defer r.progress.end()
	queue := make(chan job)
	var workers sync.WaitGroup
	for range min(r.parallel, len(jobs)) {
		workers.Go(func() {
			for j := range queue {
				r.one(ctx, cancel, j)
			}
		})
	}
	for _, j := range jobs {
		select {
		case queue <- j:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
}

func (r *restoreAll) one(ctx context.Context, cancel func(), j job) {
	o := outcome{ID: j.db.ID, Path: j.out, Status: "restored"}
	err := multidb.RestoreFrom(ctx, r.src.factory, j.db, multidb.RestoreOptions{
		OutputPath: j.out, Timestamp: r.at.Time, TempDir: r.work.path, IntegrityCheck: r.check,
		Warn: func(w string) { o.Warnings = append(o.Warnings, w) },
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return // interrupted: whether it would have failed is unknown
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r.mu.Lock()
		r.fatal = fmt.Errorf("%s: %s; make room and run it again", show(string(j.db.ID)), reason(err))
		r.mu.Unlock()
		cancel()
		return
	default:
		o.Status, o.Error = "failed", reason(explainLone(ctx, r.src, j.db, err))
	}
	r.progress.done.Add(1)
	r.tell(o)
}

// tell counts the outcome of a database and writes it.
func (r *restoreAll) tell(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range o.Warnings {
		r.progress.say("multidb: warning: %s: %s", show(string(o.ID)), show(w))
	}
	switch o.Status {
	case "restored":
		r.restored++
	case "exists":
		r.exists++
	default:
		r.failed++
		line := fmt.Sprintf("multidb: %s: %s", show(string(o.ID)), show(o.Error))
		if r.progress != nil {
			r.progress.say("%s", line)
		} else {
			_, _ = fmt.Fprintln(r.e.stderr, line)
		}
	}
	if r.out == nil || r.unread {
		return
	}
	err := r.out.add(o)
	if err == nil {
		err = r.out.end() // flushed at once: a reported database is done
	}
	if err != nil {
		r.unread = true // restoring continues all the same
	}
}

// summary says how it went. With JSON it goes to standard error, so that it is not
// taken for a record.
func (r *restoreAll) summary(ctx context.Context, took time.Duration) error {
	w := r.e.stdout
	if r.json {
		w = r.e.stderr
	}
	s := fmt.Sprintf("%d restored, %d existed, %d failed", r.restored, r.exists, r.failed)
	if r.restored > 0 && took > 0 {
		s += fmt.Sprintf("; %.1f databases/s, %s", float64(r.restored)/took.Seconds(), showDuration(took))
	}
	if _, err := fmt.Fprintln(w, s); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	switch {
	case r.fatal != nil:
		return r.fatal
	case ctx.Err() != nil:
		return fmt.Errorf("%w: run the same command to go on", context.Cause(ctx))
	case r.failed > 0 && r.restored+r.exists == 0:
		return errors.New("every database failed")
	case r.failed > 0:
		return errPartly
	}
	return nil
}
