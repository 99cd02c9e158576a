package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
	"github.com/multidb-go/multidb/internal/tenancy"
)

func evictCommand() *command {
	return lifeCommand(&command{
		name: control.Evict, args: "[flags] ID…",
		short: "take databases off this disk; the next use brings each back",
		long: `
The local file is deleted once everything in it is at the replica, and looked at.
It waits until nobody has the database open in the running replicate. Without
max-disk in the configuration only the log is shipped and cut.`,
	}, nil)
}

func removeCommand() *command {
	return lifeCommand(&command{
		name: control.Remove, args: "[flags] ID…",
		short: "take databases out of service; undelete brings them back for 30 days",
		long: `
What is left is shipped, the local files are deleted, and the prefix says that the
database was removed. Its backups stay for removed-retention of the configuration,
then they are erased. ls -removed lists what was removed.`,
	}, nil)
}

func undeleteCommand() *command {
	return lifeCommand(&command{
		name: control.Undelete, args: "[flags] ID…",
		short: "put removed databases into service again",
		long: `
They have no local file until they are used, or restored: the running replicate
brings each back where restore-on-open is set, or max-disk.`,
	}, nil)
}

func eraseCommand() *command {
	return lifeCommand(&command{
		name: control.Erase, args: "[flags] ID…",
		short: "delete everything of databases for good, their backups too",
		long: `
Every object at the prefix, older versions where the rights allow, what the fleet
log has, the local files and those that were set aside. Nothing brings it back. A
terminal is asked to type each ID; elsewhere -yes is needed. -dry-run says what
would be deleted; older versions are not in it.

The answer is a record of what was deleted, and of what is left and why: then it
ends with 3. A second erase proves that nothing is left.`,
	}, nil)
}

func renameCommand() *command {
	return lifeCommand(&command{
		name: control.Rename, args: "[flags] OLD NEW",
		short: "give a database another ID, with its file and its backups",
		long: `
A pattern of the configuration must make NEW, which nothing may have yet. Its
history goes along; the storage copies it where it can.`,
	}, func(fs *flag.FlagSet, o *control.Order) func(args []string) error {
		return func(args []string) error { return twoIDs(args, o) }
	})
}

func forkCommand() *command {
	return lifeCommand(&command{
		name: control.Fork, args: "[flags] SRC DST",
		short: "make a database of a state of another, which goes on",
		long: `
A pattern of the configuration must make DST, which nothing may have yet. Without
-txid and -timestamp it is the newest state. SRC may be a removed database. DST has
no local file until it is used.`,
	}, func(fs *flag.FlagSet, o *control.Order) func(args []string) error {
		txid := fs.String("txid", "", "fork the state at this transaction, in hexadecimal as snapshots\nshows it")
		var at timeFlag
		at.add(fs)
		return func(args []string) error {
			if *txid != "" {
				n, err := strconv.ParseUint(*txid, 16, 64)
				if err != nil || n == 0 {
					return usagef("-txid %q is no transaction; want hexadecimal digits, as snapshots shows it", *txid)
				}
				o.TXID = n
			}
			if o.Timestamp = at.Time; o.TXID != 0 && !o.Timestamp.IsZero() {
				return usagef("-txid and -timestamp exclude each other")
			}
			return twoIDs(args, o)
		}
	})
}

// twoIDs are the operands of rename and fork.
func twoIDs(args []string, o *control.Order) error {
	if err := operands(args, 2, 2); err != nil {
		return err
	}
	o.IDs, o.To = args[:1], args[1]
	return nil
}

// lifeCommand adds what the verbs have in common. more adds flags, and returns what reads the
// operands; nil: they are IDs.
func lifeCommand(c *command, more func(*flag.FlagSet, *control.Order) func(args []string) error) *command {
	verb := c.name
	c.long += `

It is carried out by the running replicate, which does not restart. Ctrl-C ends
the waiting; what was begun goes on or is given up, as docs/OPERATIONS.md says.`
	c.flags = func(fs *flag.FlagSet) action {
		var s sourceFlags
		s.addConfig(fs)
		s.addStateDir(fs)
		asJSON := addJSON(fs)
		o := control.Order{Verb: verb}
		fs.BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
		yes := true
		if verb == control.Erase {
			fs.BoolVar(&yes, "yes", false, "do not ask")
		}
		read := func(args []string) error {
			if o.IDs = args; len(args) == 0 {
				return usagef("an ID is missing")
			}
			return nil
		}
		if more != nil {
			read = more(fs, &o)
		}
		return func(ctx context.Context, e *env, args []string) error {
			if err := read(args); err != nil {
				return err
			}
			if !yes && !o.DryRun {
				if err := e.confirm(ctx, o.IDs); err != nil {
					return err
				}
			}
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

// confirm has the operator type what is to be erased.
func (e *env) confirm(ctx context.Context, ids []string) error {
	if !isTerminal(e.stdin) {
		return usagef("-yes is missing: erase deletes for good, and there is no terminal to ask")
	}
	typed := make(chan string)
	go func() {
		defer close(typed)
		for in := bufio.NewScanner(e.stdin); in.Scan(); {
			select {
			case typed <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for _, id := range ids {
		_, _ = fmt.Fprintf(e.stderr, "type %s to erase it for good: ", show(id)) // there is no other place to write it
		select {
		case said := <-typed:
			if said != id {
				return errors.New("that is something else: nothing was erased")
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// notErased names what is left of an erased database.
func (e *env) notErased(o control.Outcome) {
	for _, l := range o.Erased.Left {
		what := l.What
		if what == "" {
			what = "older versions, perhaps"
		}
		e.note("%s: left: %s: %s", show(o.ID), show(what), show(l.Why))
	}
}

// lifeResult is an outcome in a few words.
func lifeResult(o control.Outcome) string {
	switch o.Verb {
	case control.Evict:
		return "evicted"
	case control.Remove:
		return "removed"
	case control.Undelete:
		return "in service again"
	case control.Rename:
		return "is " + o.To + " now"
	case control.Fork:
		return "forked to " + o.To
	}
	x := o.Erased
	if x == nil {
		return "erased"
	}
	s := "erased: " + showErased(x)
	if !x.LogUntil.IsZero() {
		s += ", the fleet log's objects by " + showTime(x.LogUntil)
	}
	if len(x.Left) > 0 {
		s += fmt.Sprintf("; %d left", len(x.Left))
	}
	return s
}

func showErased(x *control.Erased) string {
	if x.Objects+x.Versions == 0 && len(x.Local)+len(x.Left) == 0 { // erased before, or an ID that is mistyped
		return "nothing was there"
	}
	return fmt.Sprintf("%d objects, %d older versions, %s, %d local files", x.Objects, x.Versions, showBytes(x.Bytes), len(x.Local))
}

// isLife reports whether a verb is one of those here.
func isLife(verb string) bool {
	switch verb {
	case control.Evict, control.Remove, control.Undelete, control.Erase, control.Rename, control.Fork:
		return true
	}
	return false
}

// mayBeUnknown reports whether a verb is also for what is not in service.
func mayBeUnknown(verb string) bool {
	return verb == control.Undelete || verb == control.Erase || verb == control.Fork || verb == control.Remove
}

// live carries out an order about a database's life. st is of one that is in service.
func (s *served) live(ctx context.Context, o control.Order, st multidb.Status, out *control.Outcome) (err error) {
	id := multidb.ID(out.ID)
	if o.DryRun {
		return s.wouldLive(ctx, o, st, out)
	}
	switch o.Verb {
	case control.Evict:
		err = s.m.Evict(ctx, id)
	case control.Remove:
		err = s.m.Remove(ctx, id)
	case control.Undelete:
		err = s.m.Undelete(ctx, id)
	case control.Rename:
		err = s.m.Rename(ctx, id, multidb.ID(o.To))
	case control.Fork:
		err = s.m.Fork(ctx, id, multidb.ID(o.To), multidb.ForkOptions{TXID: multidb.TXID(o.TXID), Timestamp: o.Timestamp})
	case control.Erase:
		var done multidb.Erasure
		done, err = s.m.Erase(ctx, id)
		if err == nil || !done.At.IsZero() {
			out.Erased = erased(done)
		}
	}
	// The log has to show that an operator did this.
	s.logger.Info(o.Verb+" by command", "id", id, "to", o.To, "err", err)
	out.Done = err == nil
	return err
}

func erased(e multidb.Erasure) *control.Erased {
	x := &control.Erased{
		Prefix: e.Prefix, At: e.At, Objects: e.Objects, Versions: e.Versions, Bytes: e.Bytes,
		Local: e.Local, LogUntil: e.LogUntil, Complete: e.Complete(),
	}
	for _, l := range e.Left {
		x.Left = append(x.Left, control.Left(l))
	}
	return x
}

// wouldErase counts what an erasure would delete, of one that is in service or was removed.
func (s *served) wouldErase(ctx context.Context, st multidb.Status, out *control.Outcome) error {
	db := st.Database
	for r := range s.m.Removed() {
		if string(r.ID) == out.ID {
			db = r.Database
		}
	}
	if db.ID == "" {
		_, err := s.m.Status(multidb.ID(out.ID))
		return err
	}
	names, err := tenancy.LocalFiles(db.Path)
	if err != nil {
		return err
	}
	x := &control.Erased{Prefix: st.Prefix}
	for _, name := range names {
		if _, err := os.Lstat(name); err == nil {
			x.Local = append(x.Local, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	factory, err := s.replica()
	if err != nil {
		return err
	}
	files, err := multidb.ReplicaFiles(ctx, factory, db, false)
	if err != nil {
		return err
	}
	for _, f := range files {
		x.Objects++
		x.Bytes += f.Size
	}
	if p, ok := factory.(multidb.ReplicaPrefixer); ok && x.Prefix == "" {
		x.Prefix, err = p.Prefix(db)
	}
	out.Path, out.Erased = db.Path, x
	out.Would = fmt.Sprintf("would erase %d LTX files of %s at %s, and %d local files: %s", x.Objects, showBytes(x.Bytes), x.Prefix, len(x.Local), strings.Join(x.Local, ", "))
	return err
}

// Removed lists what is out of service.
func (s *served) Removed() iter.Seq[control.Removed] {
	return func(yield func(control.Removed) bool) {
		for r := range s.m.Removed() {
			if !yield(control.Removed{ID: string(r.ID), Path: r.Path, RemovedAt: r.RemovedAt.Truncate(time.Second), EraseAfter: r.EraseAfter.Truncate(time.Second)}) {
				return
			}
		}
	}
}
