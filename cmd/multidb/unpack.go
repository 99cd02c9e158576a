package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

func unpackCommand() *command {
	return &command{
		name:  "unpack",
		args:  "[flags] ID…|-all",
		short: "give prefixes what only the fleet log has of their databases",
		long: `
With a fleet log, the newest transactions of a database may be in the log alone for
some minutes. restore and the other commands here read both; litestream's own
restore reads the prefix. After an unpack it finds everything that the log had.

It needs the replica and nothing else, with the right to write, and may be done at
any time, beside a replicate too: it writes what that would write later. The exit
code is 3 if some databases failed.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addReplica(fs)
			u := &unpack{}
			asJSON := addJSON(fs)
			fs.BoolVar(&u.every, "all", false, "every database that the log or the replica has")
			fs.BoolVar(&u.quiet, "quiet", false, "show no progress")
			fs.IntVar(&u.parallel, "parallel", 16, "unpack `N` at once")
			return func(ctx context.Context, e *env, args []string) error {
				switch {
				case u.every == (len(args) > 0):
					return usagef("name databases by their IDs, or give -all: every database")
				case u.parallel < 1 || u.parallel > 1000:
					return usagef("-parallel is %d; want 1 to 1000", u.parallel)
				case s.fleetLog == noFleetLog:
					return usagef("there is nothing to unpack without a fleet log: -fleet-log wants its path here")
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				u.e, u.src, u.ids, u.json = e, src, args, asJSON.use(e.stdout)
				return u.run(ctx)
			}
		},
	}
}

// unpack is one run.
type unpack struct {
	e        *env
	src      *source
	ids      []string // those that are wanted, unless every one is
	every    bool
	json     bool
	quiet    bool
	parallel int
	progress *progress

	mu                       sync.Mutex
	out                      *rows
	unread                   bool // nobody reads standard output any more
	unpacked, newest, failed int
}

// unpacked is what became of a database.
type unpacked struct {
	ID     multidb.ID `json:"id"`
	Status string     `json:"status"`         // unpacked, newest (the prefix lacked nothing) or failed
	TXID   string     `json:"txid,omitempty"` // the last transaction that was unpacked
	Error  string     `json:"error,omitempty"`
}

func (u *unpack) run(ctx context.Context) error {
	if u.json {
		u.out = newRows(u.e.stdout, true)
	}
	dbs, err := u.list(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	u.progress = newProgress(u.e.stderr, u.quiet, "unpacked", nil)
	u.progress.total.Store(int64(len(dbs)))
	queue := make(chan multidb.Database)
	var workers sync.WaitGroup
	for range min(u.parallel, len(dbs)) {
		workers.Go(func() {
			for db := range queue {
				u.one(ctx, db)
			}
		})
	}
	for _, db := range dbs {
		select {
		case queue <- db:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
	u.progress.end()
	return u.summary(ctx, time.Since(begin))
}

// list finds the databases. What is wrong with some is told, and the rest goes on.
func (u *unpack) list(ctx context.Context) ([]multidb.Database, error) {
	if len(u.ids) == 1 { // which may be found without a listing
		db, err := u.src.database(ctx, u.e, u.quiet, multidb.ID(u.ids[0]))
		return []multidb.Database{db}, err
	}
	p := newProgress(u.e.stderr, u.quiet, "listing the databases", nil)
	all, errs := u.src.tenants(ctx, p)
	p.end()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if u.every {
		if len(all) == 0 && len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		if len(all) == 0 {
			return nil, u.src.nothing(u.e)
		}
		for _, err := range errs {
			o := unpacked{Status: "failed", Error: reason(err)}
			if of, ok := errors.AsType[*multidb.Error](err); ok {
				o.ID = of.ID
			}
			u.tell(o)
		}
		return all, nil
	}
	var dbs []multidb.Database
	for _, id := range u.ids {
		found := 0
		for _, db := range all {
			if db.ID == multidb.ID(id) {
				dbs, found = append(dbs, db), found+1
			}
		}
		if found == 0 {
			err := errors.Join(append(errs, unknown("with the ID", id, u.src.place, idsOf(all)))...)
			u.tell(unpacked{ID: multidb.ID(id), Status: "failed", Error: reason(err)})
		}
	}
	return dbs, nil
}

func (u *unpack) one(ctx context.Context, db multidb.Database) {
	o := unpacked{ID: db.ID, Status: "unpacked"}
	txid, err := multidb.UnpackFrom(ctx, u.src.factory, db)
	switch {
	case ctx.Err() != nil:
		return // interrupted: whether it was done is unknown
	case err != nil:
		o.Status, o.Error = "failed", reason(err)
	case txid == 0:
		o.Status = "newest"
	default:
		o.TXID = txid.String()
	}
	u.progress.done.Add(1)
	u.tell(o)
}

// tell counts the outcome of a database and writes it.
func (u *unpack) tell(o unpacked) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch o.Status {
	case "unpacked":
		u.unpacked++
	case "newest":
		u.newest++
	default:
		u.failed++
		line := fmt.Sprintf("multidb: %s: %s", show(string(o.ID)), show(o.Error))
		if u.progress != nil {
			u.progress.say("%s", line)
		} else {
			_, _ = fmt.Fprintln(u.e.stderr, line)
		}
	}
	if u.out == nil || u.unread {
		return
	}
	err := u.out.add(o)
	if err == nil {
		err = u.out.end()
	}
	u.unread = err != nil // unpacking continues all the same
}

// summary says how it went. With JSON it goes to standard error, so that it is not taken
// for a record.
func (u *unpack) summary(ctx context.Context, took time.Duration) error {
	w := u.e.stdout
	if u.json {
		w = u.e.stderr
	}
	_, err := fmt.Fprintf(w, "%d unpacked, %d were newest, %d failed; %s\n", u.unpacked, u.newest, u.failed, showDuration(took))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: run the same command to go on", context.Cause(ctx))
	case u.failed > 0 && u.unpacked+u.newest == 0:
		return errors.New("every database failed")
	case u.failed > 0:
		return errPartly
	}
	return err
}
