// Bench measures multidb beside stock litestream, used as a library, in one run
// on one machine, and prints one table with the ratios.
//
//	go -C bench run . [flags]
//
// Every scenario runs in a process of its own, which is this program again, so
// that memory, descriptors and goroutines are of that scenario alone; the S3
// server (gofakes3, in memory) and the applications that write to databases are
// processes of their own too.
//
//	-short            the quick form: 1,000 and 10,000 databases, one repetition
//	-runs N           repetitions of each scenario; the table has the median and
//	                  the range. Slow scenarios have two at most. Default 3,
//	                  or 1 with -short
//	-scenario REGEXP  only the scenarios whose name matches
//	-n N              so many databases, whatever the scenarios say
//	-d DURATION       so long a load of random tenants, whatever the scenario says
//	-list             name the scenarios and do nothing else
//	-dir DIR          where the databases are made, in a directory of its own
//	                  that is removed at the end. Default: the system's
//	                  temporary directory
//	-o FILE           write the table between the markers of a Markdown file
//	-v                tell every figure of every run on stderr, those that are not
//	                  in the table too
//	-cpuprofile DIR   write a CPU profile of multidb's side of every scenario
//
// The exit status says whether everything could be measured, not whether the
// bars were met: times are benchmarks, not tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == roleFlag {
		err = runRole(ctx, os.Args[2:])
	} else {
		err = runBench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings is what the flags say.
type settings struct {
	short   bool
	list    bool
	verbose bool
	runs    int
	n       int
	load    time.Duration
	only    *regexp.Regexp
	dir     string
	out     string
	profile string
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&s.short, "short", false, "the quick form: 1,000 and 10,000 databases, one repetition")
	fs.BoolVar(&s.list, "list", false, "name the scenarios and do nothing else")
	fs.BoolVar(&s.verbose, "v", false, "tell every figure of every run on stderr")
	fs.IntVar(&s.runs, "runs", 0, "repetitions of each scenario (default 3, or 1 with -short)")
	fs.IntVar(&s.n, "n", 0, "so many databases, whatever the scenarios say")
	fs.DurationVar(&s.load, "d", 0, "so long a load of random tenants, whatever the scenario says")
	fs.StringVar(&s.dir, "dir", os.TempDir(), "where the databases are made")
	fs.StringVar(&s.out, "o", "", "write the table between the markers of this Markdown file")
	fs.StringVar(&s.profile, "cpuprofile", "", "write a CPU profile of every scenario into this directory")
	only := fs.String("scenario", "", "only the scenarios whose name matches this regular expression")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.n < 0 {
		return s, fmt.Errorf("-n %d: want at least 1", s.n)
	}
	if s.load < 0 {
		return s, fmt.Errorf("-d %v: want more than 0", s.load)
	}
	if s.runs < 0 {
		return s, fmt.Errorf("-runs %d: want at least 1", s.runs)
	}
	if s.runs == 0 {
		s.runs = 3
		if s.short {
			s.runs = 1
		}
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return s, fmt.Errorf("-scenario: %w", err)
	}
	if s.profile != "" {
		if s.profile, err = filepath.Abs(s.profile); err != nil {
			return s, err
		}
		if err := os.MkdirAll(s.profile, 0o755); err != nil {
			return s, err
		}
	}
	return s, nil
}

func runBench(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parseSettings(args, stderr)
	if err != nil {
		return err
	}
	chosen := choose(scenarios(s.short), s.only)
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario matches %q", s.only)
	}
	if s.n > 0 {
		for i := range chosen {
			chosen[i].sizes, chosen[i].stockSize = []int{s.n}, 0
		}
	}
	if s.list {
		for _, sc := range chosen {
			if _, err := fmt.Fprintf(stdout, "%-12s %s\n", sc.name, sc.title); err != nil {
				return err
			}
		}
		return nil
	}
	if s.out != "" {
		if err := checkMarkers(s.out); err != nil {
			return err
		}
	}
	b, err := newBench(s, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	rep, err := b.run(ctx, chosen)
	if rep == nil {
		return err
	}
	md := rep.markdown()
	if _, e := io.WriteString(stdout, md); e != nil {
		return errors.Join(err, e)
	}
	if s.out != "" && err == nil {
		err = writeBetweenMarkers(s.out, md)
	}
	return err
}
