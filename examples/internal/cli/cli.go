// Package cli is what the example programs do at their edges: signals and exit
// codes.
package cli

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
	"time"
)

// Exit codes. Interrupted is what a shell reports of a program that SIGINT ended.
const (
	OK          = 0
	Failed      = 1
	Usage       = 2
	Interrupted = 130
)

// Program is an example's main function. It returns the exit code when it has
// cleaned up after itself, also when ctx ends first.
type Program func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// patience is how long after the first signal another one is taken for the
// same: timeout(1), for one, sends its own twice.
const patience = time.Second

// Main runs p and exits with its code. Ctrl-C, SIGTERM, a closed terminal and a
// closed pipe end its context; another signal, at least a second later, ends the
// process at once.
func Main(p Program) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		<-signals
		cancel()
		for first := time.Now(); ; {
			<-signals
			if time.Since(first) > patience {
				os.Exit(Interrupted)
			}
		}
	}()
	os.Exit(p(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Parse reads flags; no other arguments are allowed. If done, the program ends
// with the code.
func Parse(fs *flag.FlagSet, args []string, stderr io.Writer) (code int, done bool) {
	fs.SetOutput(stderr)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return OK, true
	case err != nil:
		return Usage, true
	case fs.NArg() > 0:
		return Misuse(fs.Name(), stderr, "unexpected argument %q", fs.Arg(0)), true
	}
	return OK, false
}

// Misuse reports a wrong command line and returns its exit code.
func Misuse(name string, stderr io.Writer, format string, args ...any) int {
	_, _ = fmt.Fprintf(stderr, "%s: %s (see -h)\n", name, fmt.Sprintf(format, args...))
	return Usage
}

// Exit reports how a program ended, each error on one line, and returns its
// exit code. After a signal, what the signal itself made fail is not reported.
func Exit(ctx context.Context, name string, stderr io.Writer, err error) int {
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		_, _ = fmt.Fprintf(stderr, "%s: interrupted\n", name)
		if e, ok := errors.AsType[*CloseError](err); ok {
			_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, e)
		}
		return Interrupted
	}
	if err == nil {
		return OK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", name, line)
	}
	return Failed
}
