package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/internal/control"
)

// The exit codes; see the package's comment.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartly  = 3
	exitElse    = 4
	exitSignals = 128 // plus the signal's number
)

func main() {
	// Writing to a closed pipe must return an error, not kill the process: a restore
	// has to clean up first.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := interruptible(context.Background())
	code := run(ctx, os.Args[1:], &env{stdin: os.Stdin, stdout: output{os.Stdout}, stderr: os.Stderr, getenv: os.Getenv})
	stop()
	os.Exit(code)
}

// env is what a command has of the process.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// note tells the operator something that is not a result.
func (e *env) note(format string, args ...any) {
	_, _ = fmt.Fprintf(e.stderr, "multidb: "+format+"\n", args...) // there is no other place to write it
}

// signalError is why the context of an interrupted command has ended.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string {
	switch e.sig {
	case syscall.SIGINT:
		return "interrupted"
	case syscall.SIGTERM:
		return "interrupted by SIGTERM"
	}
	return "interrupted by " + e.sig.String()
}

// interruptible returns a context that the first SIGINT or SIGTERM ends. The
// second one ends the process.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(signalError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// usageError is a wrong command line.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errPartly is returned when some databases have a problem, and were named.
var errPartly = errors.New("some databases are not well")

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, e *env) int {
	c, rest, err := find(args)
	if err == nil && c == nil {
		return e.exit(ctx, help(e.stdout, rest))
	}
	if err == nil {
		err = c.run(ctx, e, rest)
	}
	var usage usageError
	if errors.As(err, &usage) && c != nil {
		err = usagef("%s\nusage: multidb %s\n`multidb help %s` says more", err, c.usage(), c.name)
	}
	return e.exit(ctx, err)
}

// exit prints what went wrong, unless that was printed already, and returns the exit
// code.
func (e *env) exit(ctx context.Context, err error) int {
	var usage usageError
	var interrupted signalError
	var atEnd stopped
	if cause := context.Cause(ctx); err != nil && errors.As(cause, &interrupted) && !errors.As(err, &atEnd) {
		switch {
		case errors.As(err, new(signalError)):
			if !errors.As(err, new(*multidb.Error)) { // else it only names what was being read
				cause = err
			}
		case !errors.Is(err, context.Canceled):
			cause = errors.Join(cause, err)
		}
		e.note("%v", cause)
		return exitSignals + int(interrupted.sig)
	}
	switch {
	case err == nil, errors.Is(err, errReaderGone):
		return exitOK
	case errors.Is(err, errPartly):
		return exitPartly
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	}
	e.note("%s", words(strings.TrimPrefix(err.Error(), "multidb: ")))
	// One that is disabled, or has no replica, is right and says that there is nothing to do.
	idle := errors.Is(err, config.ErrDisabled) || errors.Is(err, multidb.ErrNoReplica)
	if errors.Is(err, control.ErrNotOwner) {
		return exitElse
	}
	if errors.As(err, &usage) || errors.As(err, new(*config.Error)) && !idle {
		return exitUsage
	}
	return exitFailed
}
