package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// job is what a writer, an application in another process, is asked to do.
type job struct {
	Do   string // one of the jobs below
	Dir  string // of the fleet
	DBs  []int
	Seq  int           // the mark of the first commit
	Over time.Duration // how long all of it takes
	// Keep leaves the databases open; otherwise each is closed after its commit,
	// which checkpoints it and deletes its WAL.
	Keep   bool
	Rounds int // of commits in each database; 0: one
}

const (
	doCommit = "commit" // Rounds commits in each of DBs, evenly spread over Over
	doOpen   = "open"   // opens DBs, for jobs that Keep them; their commits come later
	doCreate = "create" // the databases DBs, evenly spread over Over
)

// report is what a writer answers.
type report struct {
	Times []int64 // when each commit or file was done, in order, in Unix nanoseconds
	Err   string
}

// writerRole does jobs until in ends.
func writerRole(in io.Reader, out io.Writer) (err error) {
	w := &writer{open: map[string]*kept{}}
	defer func() {
		for _, k := range w.open {
			err = errors.Join(err, k.close())
		}
	}()
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var j job
		if err := questions.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		times, err := w.do(j)
		r := report{Times: times}
		if err != nil {
			r.Err = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
}

type writer struct{ open map[string]*kept }

func (w *writer) do(j job) ([]int64, error) {
	step := w.commit
	switch j.Do {
	case doCommit:
	case doOpen:
		step = func(j job, i, _ int) error {
			_, err := w.keep(filepath.Clean(fleetPath(j.Dir, i)))
			return err
		}
	case doCreate:
		image, err := template(os.TempDir(), 0)
		if err != nil {
			return nil, err
		}
		step = func(j job, i, _ int) error {
			path := fleetPath(j.Dir, i)
			err := makeOne(path, image, false)
			if errors.Is(err, os.ErrNotExist) {
				err = makeOne(path, image, true)
			}
			return err
		}
	default:
		return nil, fmt.Errorf("unknown job %q", j.Do)
	}
	rounds := max(j.Rounds, 1)
	times := make([]int64, 0, rounds*len(j.DBs))
	began := time.Now()
	for round := range rounds {
		for k, i := range j.DBs {
			due := began.Add(j.Over * time.Duration(round*len(j.DBs)+k) / time.Duration(rounds*len(j.DBs)))
			if err := pause(context.Background(), time.Until(due)); err != nil {
				return nil, err
			}
			if err := step(j, i, j.Seq+round); err != nil {
				return nil, fmt.Errorf("database %d: %w", i, err)
			}
			times = append(times, time.Now().UnixNano())
		}
	}
	return times, nil
}

func (w *writer) commit(j job, i, seq int) error {
	path := filepath.Clean(fleetPath(j.Dir, i))
	if !j.Keep {
		db, err := openApp(path)
		if err != nil {
			return err
		}
		return errors.Join(commit(context.Background(), db, seq), db.Close())
	}
	k, err := w.keep(path)
	if err != nil {
		return err
	}
	return k.commit(seq)
}

// keep opens a database that stays open, unless it is.
func (w *writer) keep(path string) (*kept, error) {
	if k := w.open[path]; k != nil {
		return k, nil
	}
	db, err := openApp(path)
	if err != nil {
		return nil, err
	}
	k, err := newKept(db)
	if err == nil {
		w.open[path] = k
	}
	return k, err
}

// kept is a database that stays open. Its statements do too, so that thousands of commits
// a second leave the machine to what is measured.
type kept struct {
	db                    *sql.DB
	begin, mark, row, end *sql.Stmt
}

func newKept(db *sql.DB) (*kept, error) {
	k := &kept{db: db} // openApp allows one connection, so all are of the same
	for _, s := range []struct {
		stmt  **sql.Stmt
		query string
	}{{&k.begin, "BEGIN IMMEDIATE"}, {&k.mark, setMark}, {&k.row, oneRow}, {&k.end, "COMMIT"}} {
		var err error
		if *s.stmt, err = db.Prepare(s.query); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	return k, nil
}

// commit is as the function of this name.
func (k *kept) commit(seq int) error {
	if _, err := k.begin.Exec(); err != nil {
		return err
	}
	_, err := k.mark.Exec(markOf(seq))
	if err == nil {
		_, err = k.row.Exec()
	}
	if err != nil {
		_, rollback := k.db.Exec("ROLLBACK")
		return errors.Join(err, rollback)
	}
	_, err = k.end.Exec()
	return err
}

func (k *kept) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{k.begin, k.mark, k.row, k.end} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, k.db.Close())...)
}

// app is such a process, seen from a scenario.
type app struct{ h *helper }

func startApp(ctx context.Context) (app, error) {
	h, err := startHelper(ctx, roleWriter)
	return app{h}, err
}

func (a app) do(j job) ([]int64, error) {
	var r report
	if err := a.h.ask(j, &r); err != nil {
		return nil, fmt.Errorf("writer: %w", err)
	}
	if r.Err != "" {
		return nil, fmt.Errorf("writer: %s", r.Err)
	}
	return r.Times, nil
}

func (a app) close() error { return a.h.close() }

// upTo is 0, 1, … n-1.
func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
