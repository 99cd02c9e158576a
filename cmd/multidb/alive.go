package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/control"
)

// askAlive has ask ask the replicate that serves dir. Where there is none, or it does not
// answer within timeout, the error says who was seen there last, and when.
func askAlive(ctx context.Context, dir string, timeout time.Duration, ask func(context.Context, *control.Client) error) error {
	late := fmt.Errorf("no answer within %v", timeout)
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	running, err := control.Dial(bounded, dir)
	if err == nil {
		err = ask(bounded, running)
		running.Close()
	}
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return absent(dir)
	case err != nil && ctx.Err() == nil && errors.Is(context.Cause(bounded), late):
		return fmt.Errorf("the replicate that has the state directory %s is stuck%s: %w", dir, lastSeen(dir), late)
	}
	return err
}

// absent explains that nobody serves dir. Whether somebody does so elsewhere can only be told
// where the directory says who had it last.
func absent(dir string) error {
	const instead = "; -offline asks the replica"
	pid, host, err := catalog.Holder(dir)
	own, _ := os.Hostname() // empty: as good as unknown
	_, noSocket := os.Lstat(filepath.Join(dir, control.Socket))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w here: there is no state directory %s on this machine, and what runs on others cannot be told from here%s", control.ErrNotRunning, dir, instead)
	case err == nil && host != "" && host != own:
		return fmt.Errorf("%w here: the state directory %s is that of another host%s, and what runs there cannot be told from here%s", control.ErrNotRunning, dir, lastSeen(dir), instead)
	case errors.Is(noSocket, fs.ErrNotExist) && pid != 0 && runs(pid):
		return fmt.Errorf("nobody can be asked with the state directory %s: process %d, which had it last, serves no socket: it is just starting, or was started with -socket=false%s", dir, pid, instead)
	}
	return fmt.Errorf("%w with the state directory %s%s: nothing is shipped since%s", control.ErrNotRunning, dir, lastSeen(dir), instead)
}

// runs reports whether there is a process with this number, whatever it is.
func runs(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// lastSeen says who had dir last, as far as that is known.
func lastSeen(dir string) string {
	seen := control.Seen(dir)
	pid, host, err := catalog.Holder(dir)
	if err != nil || pid == 0 || seen.IsZero() {
		return ""
	}
	if own, err := os.Hostname(); err == nil && host != "" && host != own {
		return fmt.Sprintf(" (process %d on %s, last seen %s)", pid, show(host), showTime(seen))
	}
	return fmt.Sprintf(" (process %d, last seen %s)", pid, showTime(seen))
}
