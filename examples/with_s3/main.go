// With_s3 replicates ten databases to S3 while it writes to them, then restores
// every one from S3 and compares it with its source. It exits with 0 only if
// all are equal.
//
// Without any environment it brings its own S3 server, in this process. With
// LITESTREAM_S3_BUCKET (and LITESTREAM_S3_ENDPOINT, AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY, AWS_REGION) set, it uses that bucket, which must exist.
//
// With -fleet-log the changes of all databases go to S3 together, and it shows what that
// costs. After Close it restores every database once more, as stock litestream does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/tenant"
)

func main() { cli.Main(run) }

// pathTemplate is where a database's backup is in the bucket.
const pathTemplate = "litestream/{{project}}/{{database}}/"

// closeLimit is how long shutting down may take if S3 does not answer.
const closeLimit = 10 * time.Second

type options struct {
	keep     string
	rounds   int
	interval time.Duration
	fleetLog bool
}

// logPath is where the fleet log is in the bucket.
const logPath = "litestream-log"

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet("with_s3", flag.ContinueOnError)
	fs.StringVar(&o.keep, "keep", "", "work in this `directory` and leave the databases there (default: a temporary one)")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds of writes")
	fs.DurationVar(&o.interval, "interval", 3*time.Second, "time between the rounds")
	fs.BoolVar(&o.fleetLog, "fleet-log", false, "write the changes of all databases together, one PUT an interval")
	if code, done := cli.Parse(fs, args, stderr); done {
		return code
	}
	if o.rounds < 1 || o.interval <= 0 {
		return cli.Misuse("with_s3", stderr, "-rounds and -interval must be above zero")
	}
	return cli.Exit(ctx, "with_s3", stderr, demo(ctx, o, stdout))
}

// demo is one run. Whatever it started is stopped and removed when it returns.
func demo(ctx context.Context, o options, out io.Writer) (err error) {
	store, err := bucket.Open(os.Getenv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	say(out, "%s\n", store)
	replica, err := store.Replica(ctx, pathTemplate)
	if err != nil {
		return err
	}
	defer replica.CloseIdleConnections()

	dir, done, err := cli.Work(o.keep, "multidb-with-s3-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	tree := tenant.Tree{Root: dir, Projects: 2, Each: 5}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	if err := tree.Create(ctx, rnd); err != nil {
		return err
	}

	syncInterval := min(time.Second, o.interval/3)
	opts := []multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(tree.Pattern())),
		// Its databases are made anew at each run, over what the bucket had of the one before.
		multidb.WithTakeover(multidb.TakeoverUnknown),
		multidb.WithReplica(replica),
		multidb.WithSyncInterval(syncInterval),
		// Short, so that those that rest for a round are seen to go cold.
		multidb.WithHotDuration(o.interval * 3 / 2),
	}
	if o.fleetLog {
		opts = append(opts, multidb.WithFleetLog(multidb.FleetLogConfig{Path: logPath}))
	}
	m, err := multidb.New(opts...)
	if err != nil {
		return err
	}
	// Close is harmless on a Manager that has failed to start.
	defer func() { err = errors.Join(err, cli.Close(m, closeLimit)) }()
	if err := m.Start(ctx); err != nil {
		return err
	}
	say(out, "Databases: %d found in %s\nReplica:   s3://%s/%s\n", m.Stats().Databases, dir, store.Name(), pathTemplate)
	if o.fleetLog {
		say(out, "Fleet log: s3://%s/%s/\n", store.Name(), logPath)
	}

	d := &show{m: m, replica: replica, tree: tree, rnd: rnd, out: out, fleetLog: o.fleetLog, began: time.Now()}
	if err := d.firstCopy(ctx); err != nil {
		return err
	}
	next := time.Now()
	for i := range o.rounds {
		if err := cli.Sleep(ctx, time.Until(next)); err != nil {
			return err
		}
		next = time.Now().Add(o.interval)
		if err := d.round(ctx, i, o.rounds); err != nil {
			return err
		}
	}
	if err := d.printBucket(ctx, store); err != nil {
		return err
	}
	written := m.Stats()
	if err := d.restoreAll(ctx, "Restored from S3", d.restore); err != nil {
		return err
	}
	if o.fleetLog {
		if err := d.afterClose(ctx, written, syncInterval); err != nil {
			return err
		}
	}
	if o.keep != "" {
		say(out, "The source databases are in %s.\n", dir)
	}
	if !store.Embedded() {
		say(out, "The backups stay in the bucket, under s3://%s/litestream/. Of what was there before, nothing was deleted.\n", store.Name())
	}
	return nil
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
