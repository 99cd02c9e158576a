// 10k_databases shows what 10,000 databases cost on one machine: they are
// copies of one template, some of them are written to all the time, and one line
// tells the totals. With -s3 they are replicated, to an S3 server inside this
// process unless LITESTREAM_S3_BUCKET names another, and at the end a sample is
// restored and compared.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

func main() { cli.Main(run) }

const (
	name         = "10k_databases"
	pathTemplate = "litestream/{{project}}/{{database}}/"
	perProject   = 100
	hotDuration  = 10 * time.Second // short, so that demotions are part of the load
	closeLimit   = time.Minute
	cancelLimit  = 10 * time.Second // of closing after a signal
)

type options struct {
	n        int
	duration time.Duration
	s3       bool
	dir      string
	active   int
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.IntVar(&o.n, "n", 10_000, "how many databases")
	fs.DurationVar(&o.duration, "duration", 0, "how long to write to them; 0: until Ctrl-C")
	fs.BoolVar(&o.s3, "s3", false, "replicate to S3 (an embedded server, unless LITESTREAM_S3_BUCKET is set)")
	fs.StringVar(&o.dir, "dir", "", "keep the databases in this `directory` (default: a temporary one, removed)")
	fs.IntVar(&o.active, "active", 100, "transactions per second, of all databases together")
	if code, done := cli.Parse(fs, args, stderr); done {
		return code
	}
	if o.n < 1 || o.duration < 0 || o.active < 1 || o.active > 100_000 {
		return cli.Misuse(name, stderr, "-n must be above zero, -duration not below it, -active 1 to 100000")
	}
	err := demo(ctx, o, stdout)
	if err == nil && o.duration == 0 {
		return cli.OK // Ctrl-C is how it ends
	}
	return cli.Exit(ctx, name, stderr, err)
}

// demo is one run. Whatever it started is stopped and removed when it returns.
func demo(ctx context.Context, o options, out io.Writer) (err error) {
	opts := []multidb.Option{multidb.WithHotDuration(hotDuration)}
	f := &fleet{options: o, out: out}
	if o.s3 {
		store, err := bucket.Open(os.Getenv)
		if err != nil {
			return err
		}
		f.held = store.Held
		defer func() { err = errors.Join(err, store.Close()) }()
		say(out, "%s\n", store)
		replica, err := store.Replica(ctx, pathTemplate)
		if err != nil {
			return err
		}
		defer replica.CloseIdleConnections()
		opts = append(opts, multidb.WithReplica(replica))
	}
	dir, done, err := cli.Work(o.dir, "multidb-10k-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	tree := tenant.Tree{Root: dir, Each: perProject, Projects: (o.n + perProject - 1) / perProject}
	if err := makeFleet(ctx, tree, o.n, out); err != nil {
		return err
	}
	// They are made anew at each run, over what a bucket had of the one before.
	m, err := multidb.New(append(opts, multidb.WithDiscoverer(multidb.Glob(tree.Pattern())), multidb.WithTakeover(multidb.TakeoverUnknown))...)
	if err != nil {
		return err
	}
	f.m, f.tree = m, tree
	err = f.live(ctx)
	began := time.Now()
	limit := closeLimit
	if err != nil && ctx.Err() != nil {
		limit = cancelLimit
	}
	err = errors.Join(err, cli.Close(m, limit)) // harmless if it has not started
	if err == nil {
		say(out, "Closed in %s.\n", term.Duration(time.Since(began)))
	}
	return err
}

// fleet is the running demo.
type fleet struct {
	m       *multidb.Manager
	tree    tenant.Tree
	options options
	out     io.Writer
	held    func() int64 // bytes of objects in the S3 server of this process
}

// memory tells what is used, apart from the objects that the embedded server
// holds: they are S3's, and grow with every write.
func (f *fleet) memory() string {
	mem := term.ReadMemory()
	live := term.Bytes(mem.Live) + " live"
	if f.held != nil && f.held() > 0 {
		live += " with " + term.Bytes(f.held()) + " of S3 objects"
	}
	return live + ", " + mem.String()
}

// live is everything between Start and Close.
func (f *fleet) live(ctx context.Context) error {
	began := time.Now()
	if err := f.m.Start(ctx); err != nil {
		return err
	}
	say(f.out, "Discovery found %s databases in %s. Memory: %s.\n",
		term.Count(f.m.Stats().Databases), term.Duration(time.Since(began)), f.memory())
	if f.options.s3 {
		if err := f.firstCopies(ctx); err != nil {
			return err
		}
	}
	load, err := f.work(ctx)
	f.summary(load)
	if err == nil && f.options.s3 {
		// Also after the Ctrl-C that is the usual end; a second one kills.
		err = f.verify(context.WithoutCancel(ctx), load)
	}
	return errors.Join(err, load.err())
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
