package cli

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// Work returns the absolute path of the directory to work in, made if it is
// missing, and what to call at the end. Without a name it is a new temporary
// one, removed by done.
func Work(name, temp string) (dir string, done func() error, err error) {
	if name == "" {
		dir, err = os.MkdirTemp("", temp)
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(name); err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	return dir, func() error { return nil }, err
}

// Close closes a Manager within the limit, also after a signal.
func Close(m interface{ Close(context.Context) error }, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return m.Close(ctx)
}

// Sleep waits. It returns the cause if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
