package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
)

func takeoverCommand() *command {
	return ownerCommand(&command{
		name:  control.TakeOver,
		short: "make the local file of a fenced database the newest state",
		long: `
One of the two ways out when a database is fenced: another writer wrote to its
prefix, and it cannot be told whose history counts. Here the local file wins.
What the other wrote stays restorable, by restore -txid, until the retention
ends; if it still runs, it is the one that is fenced from then on.

-all means all that are fenced. -dry-run names them, with the two writers.
status names what is fenced, adopt is the other way out.`,
	})
}

func adoptCommand() *command {
	return ownerCommand(&command{
		name:  control.Adopt,
		short: "make the replica's newest state the local file of a fenced database",
		long: `
One of the two ways out when a database is fenced: another writer wrote to its
prefix, and it cannot be told whose history counts. Here the replica wins. The
local file is set aside beside it, in .multidb-kept, with all that was committed
to it; where exactly is printed.

End the programs that have the database open first: they would go on writing to
the file that was set aside, and none of that is replicated.

-all means all that are fenced. -dry-run names them, with the two writers.
status names what is fenced, takeover is the other way out.`,
	})
}

func handoverCommand() *command {
	return ownerCommand(&command{
		name:  control.HandOver,
		short: "ship the rest of a database so that another machine can go on from it",
		long: `
Stop the writers of the database first: what they write afterwards is a second
history, and fenced. The other machine needs restore-on-open, or an adopt, or a
restore. -all means all databases of the running replicate; stop it when it is done.`,
	})
}

// ownerCommand adds what takeover, adopt and handover have in common.
func ownerCommand(c *command) *command {
	verb := c.name
	c.args = "[flags] ID…|-all"
	c.long += `

It is carried out by the running replicate, which does not restart. It may take as
long as shipping or restoring the databases does; Ctrl-C ends the waiting, and what
was begun goes on. Ends with 3 if it was done to some databases only.`
	c.flags = func(fs *flag.FlagSet) action {
		var s sourceFlags
		s.addConfig(fs)
		s.addStateDir(fs)
		asJSON := addJSON(fs)
		o := control.Order{Verb: verb}
		which := "every database that is fenced"
		if verb == control.HandOver {
			which = "every database"
		}
		fs.BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
		fs.BoolVar(&o.All, "all", false, which)
		return func(ctx context.Context, e *env, args []string) error {
			if o.All == (len(args) > 0) {
				return usagef("name databases by their IDs, or give -all: %s", which)
			}
			o.IDs = args
			running, err := s.dialRunning(ctx, e)
			if err != nil {
				return err
			}
			defer running.Close()
			return carryOut(ctx, e, running, o, asJSON.use(e.stdout))
		}
	}
	return c
}

// dialRunning connects to the running replicate; it is an error if none runs.
func (s *sourceFlags) dialRunning(ctx context.Context, e *env) (*control.Client, error) {
	dir := s.stateDir
	if dir == "" {
		c, err := s.read(e)
		if err != nil {
			return nil, err
		}
		if dir, err = stateDirOf(c); err != nil {
			return nil, err
		}
	}
	client, err := control.Dial(ctx, dir)
	if errors.Is(err, control.ErrNotRunning) {
		return nil, fmt.Errorf("%w: start it and try again; only the process that replicates a database can do this "+
			"(a program that has multidb as a library calls the Manager's method)", err)
	}
	return client, err
}

func carryOut(ctx context.Context, e *env, c *control.Client, o control.Order, asJSON bool) error {
	owner := o.Verb == control.TakeOver || o.Verb == control.Adopt || o.Verb == control.HandOver
	header := []string{"ID", "RESULT"}
	if owner {
		header = append(header, "KEPT", "WHY")
	}
	out := newRows(e.stdout, asJSON, header...)
	var done, failed, elsewhere int
	var last error
	left := false // of what was to be erased
	for one, err := range c.Act(ctx, o) {
		if err != nil {
			return errors.Join(out.end(), err)
		}
		if one.Error != "" {
			failed++
			if one.NotOwner {
				elsewhere++
			}
			last = problem(ctx, c, one)
			e.note("%s", last)
		} else {
			done++
		}
		cells := []string{show(one.ID), show(result(one))}
		if owner {
			cells = append(cells, show(dash(one.Kept)), show(dash(one.Why)))
		}
		if err := out.add(one, cells...); err != nil {
			return err
		}
		if one.Erased != nil && len(one.Erased.Left) > 0 {
			left = true
			e.notErased(one)
		}
		if asJSON { // as it comes
			if err := out.end(); err != nil {
				return err
			}
		}
	}
	if err := out.end(); err != nil {
		return err
	}
	switch {
	case done+failed == 0 && o.Verb == control.HandOver:
		e.note("the running replicate has no database")
	case done+failed == 0:
		e.note("no database is fenced: there is nothing to do")
	case failed > 0 && elsewhere == failed && done == 0:
		return fmt.Errorf("%s: %w: do it there", o.Verb, control.ErrNotOwner)
	case failed > 0 && done == 0:
		return fmt.Errorf("%s: failed for all of %d", o.Verb, failed)
	case failed > 0 || left:
		return errPartly
	}
	return nil
}

// problem says why a database's part of an order was not done.
func problem(ctx context.Context, c *control.Client, o control.Outcome) error {
	if !o.NotFound {
		return fmt.Errorf("%s: %s", show(o.ID), show(o.Error))
	}
	ids, err := known(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: %s", show(o.ID), show(o.Error))
	}
	return unknown("with the ID", o.ID, "the running replicate", ids)
}

// known are the IDs of all databases of the running replicate.
func known(ctx context.Context, c *control.Client) (ids []string, err error) {
	for t, err := range c.Tenants(ctx) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, t.ID)
	}
	return ids, nil
}

// result is an outcome in a few words.
func result(o control.Outcome) string {
	switch {
	case o.Error != "":
		return "failed"
	case o.DryRun:
		return o.Would
	case o.Verb == control.TakeOver:
		return "taken over, transaction " + o.TXID
	case o.Verb == control.Adopt:
		return "adopted, transaction " + o.TXID
	case o.Verb == control.HandOver:
		return "handed over, transaction " + o.TXID
	}
	return lifeResult(o)
}

// Chosen lists what -all means.
func (s *served) Chosen(verb string) []string {
	var ids []string
	for st := range s.m.All() {
		if verb == control.HandOver || errors.Is(st.Err, multidb.ErrFenced) {
			ids = append(ids, string(st.ID))
		}
	}
	return ids
}

// Act carries out an operator's order.
func (s *served) Act(ctx context.Context, o control.Order, id string) control.Outcome {
	out := control.Outcome{ID: id, Verb: o.Verb, DryRun: o.DryRun, To: o.To}
	known := false
	fail := func(err error) control.Outcome {
		// What is not found may also be the new ID of a rename.
		out.Error, out.NotFound = words(strings.TrimPrefix(cause(err), "multidb: ")), errors.Is(err, multidb.ErrNotFound) && !known
		out.NotOwner = errors.Is(err, multidb.ErrNotOwner)
		return out
	}
	st, err := s.m.Status(multidb.ID(id))
	if err != nil && !mayBeUnknown(o.Verb) {
		return fail(err)
	}
	known, out.Path = st.ID != "", st.Path
	if out.Fenced = errors.Is(st.Err, multidb.ErrFenced); out.Fenced {
		out.Why = words(strings.TrimPrefix(st.Err.Error(), "multidb: "))
	}
	if isLife(o.Verb) {
		if err := s.live(ctx, o, st, &out); err != nil {
			return fail(err)
		}
		return out
	}
	if o.DryRun {
		out.Would = wouldOwn(o.Verb, st, out.Fenced)
		return out
	}
	switch o.Verb {
	case control.TakeOver:
		err = s.m.TakeOver(ctx, st.ID)
	case control.Adopt:
		out.Kept, err = s.m.Adopt(ctx, st.ID)
	default:
		err = s.m.HandOver(ctx, st.ID)
	}
	// The log has to show that an operator did this.
	s.logger.Info(o.Verb+" by command", "id", id, "was fenced", out.Fenced, "kept", out.Kept, "err", err)
	if err != nil {
		return fail(err)
	}
	out.Done = true
	if st, err := s.m.Status(st.ID); err == nil { // it may be gone by now
		out.TXID = st.TXID.String()
	}
	return out
}
