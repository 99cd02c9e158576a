package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
)

func eachCommand() *command {
	return &command{
		name:  "each",
		args:  "[flags] -name NAME -sql FILE",
		short: "execute SQL in every database, as to migrate a schema",
		long: `
FILE is executed in one transaction of each database, which it must not begin or
end itself. The first -canary databases are done one after another; if one fails,
nothing more is begun. What is done is remembered under NAME: the same command goes
on with what failed and what is left, after Ctrl-C or a crash too.

After a crash what was done in the last second is executed again. With
-user-version N it is not: FILE is executed only where PRAGMA user_version is below
N, and it is N afterwards, in the same transaction.

-dry-run executes nothing. It lists the databases in which FILE would be executed, in
the order in which they would be begun, the canary first. It opens none of them, so it
also lists those that -user-version would leave as they are.

It is carried out by the running replicate. Ends with 3 if it failed for some
databases, or some are left; with 1 if -pattern matches none. -forget forgets what was done under NAME.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addConfig(fs)
			s.addStateDir(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			var o control.EachOrder
			fs.StringVar(&o.Name, "name", "", "`NAME` under which what is done is remembered; required")
			file := fs.String("sql", "", "`FILE` of SQL statements; required")
			version := fs.Int("user-version", 0, "execute it where user_version is below `N`, and set that")
			fs.StringVar(&o.Pattern, "pattern", "", "only databases whose IDs match `PATTERN`, as in ls")
			fs.IntVar(&o.Parallel, "parallel", 4, "do `N` at once; at most half of max-open")
			fs.IntVar(&o.Canary, "canary", 1, "do the first `N` one after another; -1: none")
			fs.IntVar(&o.MaxErrors, "max-errors", 10, "begin nothing more after `N` failures; -1: however many there are")
			fs.DurationVar(&o.Timeout, "timeout", 0, "how long one database may take; 0: however long")
			fs.BoolVar(&o.Again, "again", false, "do those that are done as well")
			fs.BoolVar(&o.DryRun, "dry-run", false, "only say in which databases it would be executed, in which order")
			forget := fs.Bool("forget", false, "forget what was done under NAME, and do nothing else")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				_, err := selects(o.Pattern)
				switch {
				case err != nil:
					return err
				case o.Name == "":
					return usagef("-name NAME is missing")
				case *forget && *file != "":
					return usagef("-forget and -sql exclude each other")
				case *forget && o.DryRun:
					return usagef("-forget and -dry-run exclude each other")
				case !*forget && *file == "":
					return usagef("-sql FILE is missing")
				case o.Parallel < 1:
					return usagef("-parallel is %d; want 1 or more", o.Parallel)
				case o.Timeout < 0:
					return usagef("-timeout is %v; want 0 or more", o.Timeout)
				case *version < 0 || *version > 1<<31-1:
					return usagef("-user-version is %d; want 1 to 2147483647", *version)
				}
				o.UserVersion = int32(*version)
				if !*forget {
					b, err := os.ReadFile(*file)
					if err != nil {
						return usagef("-sql: %v", err)
					}
					if o.SQL = strings.TrimSpace(string(b)); o.SQL == "" {
						return usagef("-sql: %s is empty", *file)
					}
				}
				running, err := s.dialRunning(ctx, e)
				if err != nil {
					return err
				}
				defer running.Close()
				if *forget {
					return running.ForgetEach(ctx, o.Name)
				}
				if o.DryRun {
					return eachPlan(ctx, e, running, o, asJSON.use(e.stdout))
				}
				return each(ctx, e, running, o, *quiet, asJSON.use(e.stdout))
			}
		},
	}
}

func each(ctx context.Context, e *env, c *control.Client, o control.EachOrder, quiet, asJSON bool) error {
	p := newProgress(e.stderr, quiet, "done", nil)
	out := newRows(e.stdout, asJSON)
	last, err := eachOutcomes(ctx, c, o, p, func(one control.EachOutcome) error {
		if !asJSON {
			return nil
		}
		if err := out.add(one); err != nil {
			return err
		}
		return out.end()
	})
	p.end()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: run the same command to go on", context.Cause(ctx))
		}
		return err
	}
	if err := matchesNone(ctx, c, o, last); err != nil {
		return err
	}
	w := e.stdout
	if asJSON {
		w = e.stderr
	}
	_, err = fmt.Fprintf(w, "%d done, %d done before or gone meanwhile, %d failed, %d left\n", last.DoneAll, last.Skipped, last.Failed, last.Left)
	if last.Stopped != "" {
		e.note("stopped: %s", show(last.Stopped))
	}
	switch {
	case last.Failed+last.Left > 0 && last.DoneAll+last.Skipped == 0:
		return errors.New("each: it was done to no database")
	case last.Failed+last.Left > 0:
		return errPartly
	}
	return err
}

// eachPlan shows in which databases SQL would be executed.
func eachPlan(ctx context.Context, e *env, c *control.Client, o control.EachOrder, asJSON bool) error {
	var out *rows                             // none where there is nothing to list, which may be a mistyped pattern
	p := newProgress(e.stderr, true, "", nil) // it takes a moment
	last, err := eachOutcomes(ctx, c, o, p, func(one control.EachOutcome) error {
		if one.ID == "" && !asJSON {
			return nil
		}
		if out == nil {
			out = newRows(e.stdout, asJSON, "ID", "WHEN")
		}
		when := "then"
		if one.Canary {
			when = "first, alone: if it fails, nothing more is begun"
		}
		return out.add(one, show(one.ID), when)
	})
	p.end()
	if out != nil {
		err = errors.Join(out.end(), err)
	}
	if err != nil {
		return err
	}
	if err := matchesNone(ctx, c, o, last); err != nil {
		return err
	}
	w := e.stdout
	if asJSON {
		w = e.stderr
	}
	_, err = fmt.Fprintf(w, "%d would be done, at most %d at once; %d were done before; nothing was executed\n", last.Left, o.Parallel, last.Skipped)
	return err
}

// matchesNone is the error where a pattern chose nothing: it is mistyped, and a deployment
// must not go on as if everything was migrated.
func matchesNone(ctx context.Context, c *control.Client, o control.EachOrder, last control.EachOutcome) error {
	if o.Pattern == "" || last.DoneAll+last.Skipped+last.Failed+last.Left > 0 {
		return nil
	}
	ids, err := known(ctx, c)
	if err != nil {
		return err
	}
	return unknown("matches", o.Pattern, "the running replicate", ids)
}

// eachOutcomes shows what becomes of the databases, and returns how it ended.
func eachOutcomes(ctx context.Context, c *control.Client, o control.EachOrder, p *progress, tell func(control.EachOutcome) error) (last control.EachOutcome, err error) {
	ended := false
	for one, err := range c.Each(ctx, o) {
		if err != nil {
			return last, err
		}
		p.total.Store(int64(one.DoneAll + one.Failed + one.Skipped + one.Left))
		p.done.Store(int64(one.DoneAll + one.Failed + one.Skipped))
		if last = one; one.ID == "" {
			ended = true
			if one.Error != "" {
				return last, errors.New(one.Error)
			}
		} else if one.Error != "" {
			p.say("multidb: %s: %s", show(one.ID), show(one.Error))
		}
		if err := tell(one); err != nil {
			return last, err
		}
	}
	if !ended {
		return last, errors.New("the running replicate has ended meanwhile: run the same command to go on")
	}
	return last, nil
}

// Each executes an operator's SQL.
func (s *served) Each(ctx context.Context, o control.EachOrder, tell func(control.EachOutcome) error) {
	var last control.EachOutcome
	told := 0
	err := s.m.Each(ctx, multidb.EachOptions{
		Name: o.Name, Pattern: o.Pattern, Parallel: o.Parallel, Canary: o.Canary, MaxErrors: o.MaxErrors,
		Timeout: o.Timeout, Again: o.Again, DryRun: o.DryRun,
		OnProgress: func(p multidb.EachProgress) {
			last = control.EachOutcome{ID: string(p.ID), Done: p.Err == nil && !o.DryRun, DryRun: o.DryRun, DoneAll: p.Done, Failed: p.Failed, Skipped: p.Skipped, Left: p.Left}
			if p.Err != nil {
				last.Error = cause(p.Err)
			}
			if p.ID != "" { // before the first
				last.Canary = o.DryRun && told < o.Canary
				told++
				_ = tell(last) // it has ended ctx
			}
		},
	}, func(ctx context.Context, _ multidb.ID, db *sql.DB) error {
		return execute(ctx, db, o.SQL, o.UserVersion)
	})
	s.logger.Info("each by command", "name", o.Name, "pattern", o.Pattern, "dry_run", o.DryRun, "done", last.DoneAll, "failed", last.Failed, "left", last.Left, "err", err)
	last.ID, last.Error, last.Done, last.Canary = "", "", err == nil && !o.DryRun, false
	var some *multidb.EachError
	switch {
	case errors.As(err, &some):
		last.DoneAll, last.Failed, last.Skipped, last.Left = some.Done, len(some.Failed), some.Skipped, some.Left
		if some.Stopped != nil {
			last.Stopped = some.Stopped.Error()
		}
	case err != nil:
		last.Error = cause(err)
	}
	_ = tell(last) // to nobody, if ctx has ended
}

// ForgetEach forgets what is done under a name.
func (s *served) ForgetEach(ctx context.Context, name string) error {
	err := s.m.ForgetEach(ctx, name)
	s.logger.Info("each -forget by command", "name", name, "err", err)
	return err
}

// execute executes SQL in one transaction. version: only where user_version is below it, and
// sets it; 0: in any case.
func execute(ctx context.Context, db *sql.DB, statements string, version int32) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // unless it was committed
	if version > 0 {
		var now int32
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&now); err != nil || now >= version {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		return err
	}
	if version > 0 {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// cause is an error of one database without what the outcome says already.
func cause(err error) string {
	var of *multidb.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return err.Error()
}
