package multidb

import (
	"context"
	"database/sql"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/each"
)

// EachOptions says to which databases Each does what, and how. The zero value is of use: all
// of them, four at a time, after one canary.
type EachOptions struct {
	// Name is under which it is remembered, in the state directory, which databases are
	// done: the next Each with it goes on with the others. Name the migration, as
	// "0042-add-invoices". Empty: nothing is remembered.
	Name string
	// Pattern chooses databases by their IDs, as path.Match does: * and ? stand for
	// anything but a slash, as in "project7/*". An ID matches itself. Empty: all.
	Pattern string
	// Parallel is how many databases are worked on at once. Default 4; at most half of
	// WithMaxOpen, so that the application's own Acquires go on, and that fn may acquire
	// one other database at a time.
	Parallel int
	// Canary is how many are done one after another before any others. If one of them
	// fails nothing more is begun. Default 1; below zero: none.
	Canary int
	// MaxErrors is after how many failures nothing more is begun. Default 10; below zero:
	// however many there are.
	MaxErrors int
	// Timeout bounds what is done to one database, the wait for it included: its context
	// ends. Default 0: no bound.
	Timeout time.Duration
	// Again does what is done already under Name as well.
	Again bool
	// DryRun only says what would be done: OnProgress is called once with an empty ID, and
	// then with each database in the order in which they would be begun, the canaries
	// first; Left counts all of them each time. fn is not called and may be nil, no
	// database is opened, and nothing is remembered. It fails where the call would fail
	// before the first database.
	DryRun bool
	// OnProgress is called once before the first database, with an empty ID, and after each,
	// from the goroutine of Each: what takes long there holds everything up. It is not
	// called for those that were done before, which the first Skipped has, nor for those
	// that are left. Nil: nobody is told.
	OnProgress func(EachProgress)
}

// EachProgress says how far an Each is, after the database with this ID; empty: at its begin.
type EachProgress struct {
	ID  ID
	Err error // nil: it is done, or has gone and was skipped

	Done    int // by this call
	Failed  int
	Skipped int // were done by an earlier call with the Name, or have gone meanwhile
	Left    int // not done yet, those that are worked on included
}

// EachError says what Each has not done. It wraps the error of each database, and Stopped.
type EachError struct {
	Name                string
	Failed              []*Error // by ID
	Done, Skipped, Left int      // as in EachProgress
	// Stopped is why some are left: a canary that failed, MaxErrors, ErrClosed, or the cause
	// of ctx; nil: none are.
	Stopped error
}

// Error names the first three that failed.
func (e *EachError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "multidb: each %q: %d failed, %d done, %d skipped, %d left", e.Name, len(e.Failed), e.Done, e.Skipped, e.Left)
	if e.Stopped != nil {
		fmt.Fprintf(&b, "; stopped: %v", e.Stopped)
	}
	for i, f := range e.Failed {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Failed)-i)
			break
		}
		fmt.Fprintf(&b, "; %q: %v", string(f.ID), f.Err)
	}
	return b.String()
}

// Unwrap returns the errors of the databases, and Stopped.
func (e *EachError) Unwrap() []error { return unwrapAll(e.Failed, e.Stopped) }

// Each calls fn with every database that is known now, a few at a time, in the order of
// their IDs: to migrate the schema of a whole fleet. What fn gets is as with Do. Databases
// that are added meanwhile may be left out, those that are removed are skipped, and one
// without a local file (WithMaxDisk) is brought in and let go of again.
//
// fn must be such that it may be done twice, as migrations are that look at user_version:
// after a crash what was done in the last second is done again, and so is a database that was
// restored to an older state, or renamed, by the next call with Again. It
// should begin its transactions with ctx (BeginTx), which then roll back if it fails. A
// panic in it is that database's failure, with the stack. It may Acquire one other database
// at a time; with more, calls may wait for each other until a Timeout ends them.
//
// nil means that it was done to all of them. Otherwise the error is an *EachError, and says
// what failed and what is left; the same call goes on there. When ctx ends, or a Timeout
// passes, so does the context of fn; Each waits for 5 s more for it to return. One that does
// not is a failure, keeps its database leased and its place until it returns, and fails
// with ErrInUse if it is called again under Name meanwhile. Close begins nothing more and
// waits for what was begun.
//
// Any number of calls may be in progress, but one of each Name: ErrInUse. Before anything is
// begun there are ErrInvalidOption, ErrNotStarted and ErrClosed too.
func (m *Manager) Each(ctx context.Context, opt EachOptions, fn func(ctx context.Context, id ID, db *sql.DB) error) error {
	if err := opt.check(fn != nil || opt.DryRun); err != nil {
		return err
	}
	o := each.Options{
		Name: opt.Name, Match: opt.matches, Parallel: opt.Parallel, Canary: opt.Canary, MaxErrors: opt.MaxErrors,
		Timeout: opt.Timeout, Again: opt.Again, DryRun: opt.DryRun,
	}
	if opt.OnProgress != nil {
		o.Progress = func(p each.Progress) {
			opt.OnProgress(EachProgress{
				ID: ID(p.ID), Err: opError("each", ID(p.ID), p.Err),
				Done: p.Done, Failed: p.Failed, Skipped: p.Skipped, Left: p.Left,
			})
		}
	}
	var r each.Result
	t, err := m.eachTenants()
	if err == nil {
		err = m.node.all(ctx)
	}
	if err == nil {
		r, err = t.Run(ctx, o, func(ctx context.Context, id string, db *sql.DB) error { return fn(ctx, ID(id), db) })
	}
	if err != nil {
		return fmt.Errorf("multidb: each %q: %w", opt.Name, err)
	}
	if len(r.Failed) == 0 && r.Stopped == nil { // as after a dry run
		return nil
	}
	e := &EachError{Name: opt.Name, Done: r.Done, Skipped: r.Skipped, Left: r.Left, Stopped: r.Stopped}
	for _, f := range r.Failed {
		e.Failed = append(e.Failed, &Error{Op: "each", ID: ID(f.ID), Err: f.Err})
	}
	return e
}

// ForgetEach forgets which databases Each has done under a name. The errors are ErrInUse
// where an Each with it is in progress, ErrNotStarted, ErrClosed, and that of ctx.
func (m *Manager) ForgetEach(ctx context.Context, name string) error {
	t, err := m.eachTenants()
	if err == nil && name != "" {
		err = t.Forget(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("multidb: forget each %q: %w", name, err)
	}
	return nil
}

// eachTenants are the databases, as Each works on them, between Start and Close.
func (m *Manager) eachTenants() (*each.Tenants, error) {
	if err := m.fleet.Serving(); err != nil {
		return nil, err
	}
	return &each.Tenants{
		Fleet: m.fleet, Opener: m.opener, Catalog: m.catalog, Book: &m.eachOf,
		MaxOpen: m.cfg.maxOpen, Flush: m.cfg.flush, Evicts: m.cfg.maxDisk > 0,
	}, nil
}

// check returns what is wrong with the options.
func (o EachOptions) check(fn bool) error {
	switch {
	case !fn:
		return invalid("Each", "nil function")
	case o.Parallel < 0:
		return invalid("EachOptions.Parallel", "%d; want how many at once, or 0 for the default", o.Parallel)
	case o.Timeout < 0:
		return invalid("EachOptions.Timeout", "%v; want a duration, or 0 for none", o.Timeout)
	}
	return checkIDs("EachOptions.Pattern", o.Pattern)
}

func (o EachOptions) matches(id string) bool { return matchesID(o.Pattern, id) }

// checkIDs returns what is wrong with a pattern of IDs, and matchesID applies a right one.
func checkIDs(option, pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil {
		return invalid(option, "%q: %v; write * for anything but a slash, and \\ before what is meant as it is", pattern, err)
	}
	return nil
}

func matchesID(pattern, id string) bool {
	ok, _ := path.Match(pattern, id)
	return ok || pattern == "" || pattern == id
}
