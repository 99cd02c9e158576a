package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multidb-go/multidb"
)

// toStdout is the PATH of restore -o that means standard output.
const toStdout = "-"

// restoreToStdout writes a database to standard output, and nothing else. Whoever reads it
// cannot take back what was read, so the first byte is written when all of the database was
// restored and checked.
func restoreToStdout(ctx context.Context, e *env, src *source, id multidb.ID, opt multidb.RestoreOptions, tmp string, quiet bool) error {
	db, err := src.database(ctx, e, quiet, id)
	if err != nil {
		return err
	}
	begin := time.Now()
	f, err := restoreUnnamed(ctx, e, src, db, opt, tmp, quiet)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	n, err := copyUntil(ctx, e.stdout, f)
	switch {
	case errors.Is(err, errReaderGone): // half a database is a failure, unlike half a listing
		return fmt.Errorf("the reader of standard output has gone after %s", showBytes(n))
	case err != nil:
		return err
	}
	if !quiet {
		e.note("wrote %s to standard output: %s in %s", show(string(id)), showBytes(n), showDuration(time.Since(begin)))
	}
	return nil
}

// restoreUnnamed restores a database to a file without a name, which is gone when it is
// closed, however this process ends.
func restoreUnnamed(ctx context.Context, e *env, src *source, db multidb.Database, opt multidb.RestoreOptions, tmp string, quiet bool) (f *os.File, err error) {
	dir, err := os.MkdirTemp(tmp, "multidb-restore-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := os.RemoveAll(dir); e != nil && err == nil {
			err = errors.Join(e, f.Close())
		}
	}()
	opt.OutputPath = filepath.Join(dir, "db")
	_, err = restoreShown(ctx, e, src, db, opt, quiet)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil, fmt.Errorf("%w; give a directory with more room by -tmp", err)
	} else if err != nil {
		return nil, err
	}
	return os.Open(opt.OutputPath)
}

// copyUntil copies until the end, or the end of ctx. A write that nobody reads goes on until
// the process ends, as nothing else ends it.
func copyUntil(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	type result struct {
		n   int64
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := io.Copy(w, r)
		done <- result{n, err}
	}()
	select {
	case c := <-done:
		return c.n, c.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
