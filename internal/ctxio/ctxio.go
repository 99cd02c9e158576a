// Package ctxio lets reading, sleeping and waiting end with a context. It touches nothing
// of its own and has no locks; see each function for concurrent use.
package ctxio

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Sleep waits for d, or returns the cause of ctx's end if that comes first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Reader ends a reader with a context, and counts what was read. It is as safe
// for concurrent use as R is.
type Reader struct {
	Ctx context.Context
	R   io.Reader
	C   io.Closer     // nil: nothing to close
	N   *atomic.Int64 // bytes read are added to it; nil: not counted
}

// Read fails with the error of the context once that has ended, at the end of R
// too: what was written so far must then not be taken for the whole.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.Ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.R.Read(p)
	if r.N != nil {
		r.N.Add(int64(n))
	}
	return n, err
}

// Close closes C.
func (r *Reader) Close() error {
	if r.C == nil {
		return nil
	}
	return r.C.Close()
}

// Wait waits for goroutines until ctx ends, whose cause it then returns. The goroutines
// are waited for by whoever calls it next.
func Wait(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
