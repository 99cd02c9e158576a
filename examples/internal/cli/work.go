package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
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

// CloseError is a Close that failed, in one line: it may be about thousands of
// databases.
type CloseError struct {
	Databases int   // that are not known to be durable
	Err       error // of all
}

func (e *CloseError) Error() string {
	first, _, more := strings.Cut(e.Err.Error(), "\n")
	if !more {
		return first
	}
	return fmt.Sprintf("%d databases may have commits that are not at the replica; the first error: %s", e.Databases, first)
}

// Unwrap returns what Close returned.
func (e *CloseError) Unwrap() error { return e.Err }

// Close closes a Manager within the limit, also after a signal. Its error is a
// *CloseError.
func Close(m interface{ Close(context.Context) error }, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := m.Close(ctx)
	if err == nil {
		return nil
	}
	return &CloseError{Databases: strings.Count(err.Error(), multidb.ErrNotDurable.Error()), Err: err}
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
