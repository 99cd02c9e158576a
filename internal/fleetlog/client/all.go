package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/benbjohnson/litestream"
)

// unpackers is how many tails UnpackAll unpacks at once, each in a piece of memory.
const unpackers = 8

// UnpackAll unpacks all tails, to the prefixes that prefix returns the clients of. Nobody
// else may write these tenants in this process meanwhile. Where one fails, the others go on.
func (l *Log) UnpackAll(ctx context.Context, prefix func(prefix string) (litestream.ReplicaClient, error)) error {
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, unpackers)
	var wg sync.WaitGroup
	for _, name := range l.Prefixes() {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			inner, err := prefix(name)
			if err == nil {
				_, err = l.Unpack(ctx, name, inner, true)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("unpack %q: %w", name, err))
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, context.Cause(ctx))...)
}
