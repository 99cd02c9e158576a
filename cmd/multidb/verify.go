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
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

func verifyCommand() *command {
	return &command{
		name:  "verify",
		args:  "[flags] [PATTERN]",
		short: "prove that databases restore, by restoring each and throwing it away",
		long: `
Each is restored to a temporary directory, checked and removed. The exit code is
3 if some did not restore. PATTERN is as for ls.
` + integrityHelp,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addReplica(fs)
			v := &verify{}
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			tmp := fs.String("tmp", "", "`DIR` for the databases being checked, which must have room for N\nof them; default: $TMPDIR, else /tmp")
			check := addIntegrityCheck(fs)
			fs.IntVar(&v.parallel, "parallel", 8, "check `N` at once")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 1); err != nil {
					return err
				}
				if v.parallel < 1 || v.parallel > 1000 {
					return usagef("-parallel is %d; want 1 to 1000", v.parallel)
				}
				pattern := strings.Join(args, "")
				match, err := selects(pattern)
				if err != nil {
					return err
				}
				src, err := s.open(e)
				if err != nil {
					return err
				}
				defer src.close()
				v.e, v.src, v.json, v.check = e, src, asJSON.use(e.stdout), *check
				return v.run(ctx, *tmp, pattern, match, *quiet)
			}
		},
	}
}

type verify struct {
	e        *env
	src      *source
	parallel int
	json     bool
	check    multidb.IntegrityCheck
	tmp      string
	progress *progress

	mu         sync.Mutex
	out        *rows
	unread     bool
	ok, failed int
	bytes      int64
}

// verified is what became of a database.
type verified struct {
	ID     multidb.ID `json:"id"`
	Status string     `json:"status"` // ok or failed
	Bytes  int64      `json:"bytes,omitempty"`
	Error  string     `json:"error,omitempty"`
	// Findings of the check that are not damage.
	Warnings []string `json:"warnings,omitempty"`
}

func (v *verify) run(ctx context.Context, tmp, pattern string, match func(multidb.ID) bool, quiet bool) (err error) {
	if v.tmp, err = os.MkdirTemp(tmp, "multidb-verify-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(v.tmp)) }()
	if v.json {
		v.out = newRows(v.e.stdout, true)
	}
	p := newProgress(v.e.stderr, quiet, "listing the databases", nil)
	all, errs := v.src.tenants(ctx, p)
	p.end()
	if err := ctx.Err(); err != nil {
		return err
	}
	var dbs []multidb.Database
	for _, db := range all {
		if match(db.ID) {
			dbs = append(dbs, db)
		}
	}
	switch {
	case len(all) == 0 && len(errs) > 0:
		return errors.Join(errs...)
	case len(all) == 0:
		return fmt.Errorf("%w: there is no database at %s", multidb.ErrNoBackup, v.src.place)
	case len(dbs) == 0:
		return unknown("matches", pattern, v.src.place, idsOf(all))
	}
	begin := time.Now()
	v.progress = newProgress(v.e.stderr, quiet, "verified", v.src.bytesIn())
	v.progress.total.Store(int64(len(dbs)))
	for _, err := range errs {
		var of *multidb.Error
		if errors.As(err, &of) && of.ID != "" && !match(of.ID) {
			continue
		}
		o := verified{Status: "failed", Error: reason(err)}
		if of != nil {
			o.ID = of.ID
		}
		v.tell(o)
	}
	v.all(ctx, dbs)
	v.progress.end()
	w := v.e.stdout
	if v.json {
		w = v.e.stderr
	}
	_, err = fmt.Fprintf(w, "%d restore, %d do not; %s in %s\n", v.ok, v.failed, showBytes(v.bytes), showDuration(time.Since(begin)))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case v.failed > 0 && v.ok == 0:
		return errors.New("no database restores")
	case v.failed > 0:
		return errPartly
	}
	return err
}

func (v *verify) all(ctx context.Context, dbs []multidb.Database) {
	queue := make(chan int)
	var workers sync.WaitGroup
	for range min(v.parallel, len(dbs)) {
		workers.Go(func() {
			for i := range queue {
				v.one(ctx, dbs[i], filepath.Join(v.tmp, strconv.Itoa(i)))
			}
		})
	}
	for i := range dbs {
		select {
		case queue <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
}

func (v *verify) one(ctx context.Context, db multidb.Database, dir string) {
	o := verified{ID: db.ID, Status: "ok"}
	out := filepath.Join(dir, "db")
	err := multidb.RestoreFrom(ctx, v.src.factory, db, multidb.RestoreOptions{
		OutputPath: out, IntegrityCheck: v.check, Warn: func(w string) { o.Warnings = append(o.Warnings, w) }})
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(out); err == nil {
			o.Bytes = info.Size()
		}
	}
	err = errors.Join(explainLone(ctx, v.src, db, err), os.RemoveAll(dir))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		o = verified{ID: db.ID, Status: "failed", Error: reason(err)}
	}
	v.progress.done.Add(1)
	v.tell(o)
}

func (v *verify) tell(o verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range o.Warnings {
		v.progress.say("multidb: warning: %s: %s", show(string(o.ID)), show(w))
	}
	if o.Status == "ok" {
		v.ok++
		v.bytes += o.Bytes
	} else {
		v.failed++
		v.progress.say("multidb: %s: %s", show(string(o.ID)), show(o.Error))
	}
	if v.out == nil || v.unread {
		return
	}
	err := v.out.add(o)
	if err == nil {
		err = v.out.end()
	}
	v.unread = err != nil // the verdict is in the exit code too
}
