package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// template returns the bytes of a database in WAL mode that nobody has open
// and that has no WAL: only such a file may be copied.
func template(ctx context.Context) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "multidb-template-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "template.db")
	if err := tenant.Create(ctx, path, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(path + "-wal"); err == nil && fi.Size() > 0 {
		return nil, fmt.Errorf("the template has a WAL of %d bytes after it was closed", fi.Size())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// makeFleet makes the first n databases of the tree that do not exist yet, all
// at once as far as the machine allows.
func makeFleet(ctx context.Context, tree tenant.Tree, n int, out io.Writer) error {
	data, err := template(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var next, made, done atomic.Int64
	var wg sync.WaitGroup
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				isNew, err := copyTo(tree.Path(i), data)
				if err != nil {
					stop(err)
					return
				}
				if isNew {
					made.Add(1)
				}
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	line := term.NewLine(out)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for working := true; working; {
		select {
		case <-finished:
			working = false
		case <-tick.C:
			line.Show("%s", progress("Databases", int(done.Load()), n))
		}
	}
	line.End("%s", progress("Databases", int(done.Load()), n))
	if err := context.Cause(ctx); err != nil {
		return err
	}
	say(out, "%s databases of %s in %s, %s of them made now in %s.\n", term.Count(n), term.Bytes(int64(len(data))),
		tree.Root, term.Count(made.Load()), term.Duration(time.Since(began)))
	return nil
}

// copyTo makes a file, unless there is one.
func copyTo(path string, data []byte) (isNew bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}

func progress(what string, done, total int) string {
	return fmt.Sprintf("%-12s %s %s of %s", what, term.Bar(done, total, 40), term.Count(done), term.Count(total))
}
