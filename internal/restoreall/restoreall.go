// Package restoreall restores many databases into a directory, some at once. Nothing is
// overwritten, and a run that was ended, by whatever, is gone on with by the same call: what
// exists is taken to be done, since a file gets its name only when it is complete. What a
// database is, and how one is restored, is its caller's.
package restoreall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Source is the databases of type D that can be restored.
type Source[D any] struct {
	// List yields them, and errors about a part of the listing. Unlisted is the ID of the
	// database that such an error is about; "" is none.
	List     iter.Seq2[D, error]
	Unlisted func(error) (id string)
	ID       func(D) string
	Match    func(id string) bool
	// Twice is the error of a database with the ID of another one.
	Twice func(D) error
	// Restore makes a file of a database, and Size says how much that reads.
	Restore func(ctx context.Context, db D, to Target) error
	Size    func(ctx context.Context, db D, before time.Time) (int64, error)
}

// Target is the file to make.
type Target struct {
	Path    string
	TempDir string
	Before  time.Time // of the state; zero: the newest
	Warn    func(string)
}

// Options says where to.
type Options struct {
	Dir      string
	Plan     Plan
	Parallel int
	DryRun   bool // only Size is called, and nothing is made
}

// Status is what became of a database.
type Status uint8

// The statuses.
const (
	Restored Status = iota
	Exists
	Planned // it would be restored
	Failed
)

// Outcome is what became of one database.
type Outcome[D any] struct {
	DB       D // zero where only the ID is known
	ID       string
	Path     string
	Status   Status
	Err      error
	Warnings []string
	Size     int64 // of Planned
}

// Errors of a run.
var (
	// ErrNone: there is no database.
	ErrNone = errors.New("no database")
	// ErrNoMatch: there are some, and none matches.
	ErrNoMatch = errors.New("no database matches")
)

// Run restores what there is. It calls listed once, with how many are to be restored, and
// tell with each outcome, one at a time, in between. An error means that it could not
// begin, or why it ended: that of ctx, or a full disk.
func Run[D any](ctx context.Context, src Source[D], opt Options, listed func(todo int), tell func(Outcome[D])) (err error) {
	r := &run[D]{Source: src, Options: opt, report: tell}
	if r.Dir, err = filepath.Abs(opt.Dir); err != nil {
		return err
	}
	if opt.DryRun {
		// The plan of an unfinished run counts here too.
		if r.Plan, err = opt.Plan.goOn(filepath.Join(r.Dir, WorkName)); err != nil {
			return err
		}
		return r.all(ctx, listed)
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	work, err := openWorkDir(r.Dir, opt.Plan)
	if err != nil {
		return err
	}
	r.Plan, r.temp = work.plan, work.path
	err = r.all(ctx, listed)
	// After a failure the next run continues with the same plan.
	return errors.Join(err, work.close(err == nil && r.failed == 0))
}

// run is one run.
type run[D any] struct {
	Source[D]
	Options
	temp   string
	before time.Time
	report func(Outcome[D])

	mu     sync.Mutex // guards report, and what follows
	failed int
	ended  error // why nothing more is begun
}

// job is one database to be made.
type job[D any] struct {
	db  D
	out string
}

func (r *run[D]) all(ctx context.Context, listed func(int)) (err error) {
	if at := r.Plan.Timestamp; at != "" {
		if r.before, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return fmt.Errorf("the plan in %s: %w", filepath.Join(r.Dir, WorkName), err)
		}
	}
	jobs, err := r.list(ctx)
	if err != nil {
		return err
	}
	listed(len(jobs))
	r.work(ctx, jobs)
	if r.ended == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.ended
}

// list finds the jobs to do, and tells of the databases that cannot be restored, or are.
func (r *run[D]) list(ctx context.Context) (jobs []job[D], err error) {
	var errs []error
	var found []D
	all, taken := 0, map[string]bool{}
	for db, err := range r.List {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if all++; r.Match(r.ID(db)) {
			found = append(found, db)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case all == 0 && len(errs) > 0:
		return nil, errors.Join(errs...)
	case all == 0:
		return nil, ErrNone
	}
	for _, err := range errs {
		if id := r.Unlisted(err); id == "" || r.Match(id) {
			r.tell(Outcome[D]{ID: id, Status: Failed, Err: err})
		}
	}
	if len(found) == 0 && r.failed == 0 {
		return nil, ErrNoMatch
	}
	slices.SortStableFunc(found, func(a, b D) int { return strings.Compare(r.ID(a), r.ID(b)) })
	for _, db := range found {
		id := r.ID(db)
		o := Outcome[D]{DB: db, ID: id, Path: filepath.Join(r.Dir, OutPath(id)), Status: Failed}
		_, err := os.Lstat(o.Path)
		switch {
		case taken[o.Path]:
			o.Err = r.Twice(db)
		case err == nil:
			o.Status = Exists
		case errors.Is(err, fs.ErrNotExist):
			jobs = append(jobs, job[D]{db, o.Path})
			taken[o.Path] = true
			continue
		default:
			o.Err = err
		}
		taken[o.Path] = true
		r.tell(o)
	}
	return jobs, nil
}

// work does the jobs, some at once, until they are done or ctx ends.
func (r *run[D]) work(ctx context.Context, jobs []job[D]) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan job[D])
	var workers sync.WaitGroup
	for range min(r.Parallel, len(jobs)) {
		workers.Go(func() {
			for j := range queue {
				if !r.one(ctx, j) {
					cancel()
				}
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

// one does a job, and reports whether others are worth a try.
func (r *run[D]) one(ctx context.Context, j job[D]) bool {
	o := Outcome[D]{DB: j.db, ID: r.ID(j.db), Path: j.out, Status: Restored}
	if r.DryRun {
		o.Status = Planned
		o.Size, o.Err = r.Size(ctx, j.db, r.before)
	} else {
		o.Err = r.Restore(ctx, j.db, Target{Path: j.out, TempDir: r.temp, Before: r.before,
			Warn: func(w string) { o.Warnings = append(o.Warnings, w) }})
	}
	switch err := o.Err; {
	case err == nil:
	case ctx.Err() != nil:
		return true // interrupted: whether it would have failed is unknown
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = fmt.Errorf("%s: %w; make room and run it again", o.ID, err)
		return false
	default:
		o.Status = Failed
	}
	r.tell(o)
	return true
}

// tell passes an outcome on.
func (r *run[D]) tell(o Outcome[D]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Status == Failed {
		r.failed++
	}
	r.report(o)
}
