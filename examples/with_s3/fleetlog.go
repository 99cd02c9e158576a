package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// printLog tells what the bucket holds of the fleet log.
func (d *show) printLog(ctx context.Context) error {
	objects, err := d.replica.Objects(logPath)
	if err != nil {
		return err
	}
	n, size := 0, int64(0)
	for o, err := range objects.List(ctx, "", "") {
		if err != nil {
			return err
		}
		n, size = n+1, size+o.Size
	}
	say(d.out, "  %s/  %s, %s: what was written last of all databases, and who owns the log\n", logPath, term.Plural(n, "object"), term.Bytes(size))
	return nil
}

// afterClose closes the Manager, which brings the prefixes up to date, says what the run
// has cost but for the restores, and restores every database from its prefix alone.
func (d *show) afterClose(ctx context.Context, written multidb.Stats, syncInterval time.Duration) error {
	before := d.m.Stats().Requests // those of the restores are among them
	served := time.Since(d.began)
	if err := cli.Close(d.m, closeLimit); err != nil {
		return err
	}
	s := d.m.Stats()
	closing := s.Requests.Put - before.Put
	say(d.out, "\nClosed: every prefix has everything now, for %d PUT.\n", closing)
	q := &s.Requests
	q.Put, q.List = written.Requests.Put+closing, written.Requests.List+q.List-before.List
	q.Get, q.Head = written.Requests.Get+q.Get-before.Get, written.Requests.Head+q.Head-before.Head
	q.Delete = written.Requests.Delete + q.Delete - before.Delete
	d.printCost(s, served, syncInterval)
	return d.restoreAll(ctx, "Restored by stock litestream from its prefix alone", d.restoreStock)
}

// A PUT or LIST and a GET at S3 Standard in us-east-1, in USD. A DELETE costs nothing.
const (
	putPrice = 5e-6
	getPrice = 4e-7
)

// unpackInterval is the default of FleetLogConfig.UnpackInterval.
const unpackInterval = 5 * time.Minute

// printCost compares the requests of this run with what the same run costs without a log,
// and says by formula what an hour of steady writing costs: the run is too short, and too
// much of it is its beginning and its end, to multiply it.
func (d *show) printCost(s multidb.Stats, served, syncInterval time.Duration) {
	r := s.Requests
	cost := float64(r.Put+r.List)*putPrice + float64(r.Get+r.Head)*getPrice
	say(d.out, "\nWhat it cost, from Start to Close (%s), the restores left out\n", term.Duration(served))
	say(d.out, "  with the log:     %d PUT, %d LIST, %d GET, %d DELETE (free): $%.6f, for %d transactions of %d tenants\n",
		r.Put, r.List, r.Get+r.Head, r.Delete, cost, s.Transactions, d.tree.Len())
	say(d.out, "  without the log:  %d PUT at least, one for each transaction\n", s.Transactions)
	say(d.out, "One minute, computed: n tenants that commit in every sync interval (%s), unpacked every %s\n", term.Duration(syncInterval), "5 min")
	table := [][]string{{"tenants", "PUT with the log", "USD", "PUT without", "USD"}}
	intervals := float64(time.Minute / syncInterval)
	for _, n := range []int{d.tree.Len(), 100, 1000, 10000} {
		with := intervals + float64(n)*time.Minute.Seconds()/unpackInterval.Seconds()
		without := intervals * float64(n)
		table = append(table, []string{term.Count(n), term.Count(int64(with)), usd(with), term.Count(int64(without)), usd(without)})
	}
	term.Table(d.out, table)
	say(d.out, "  (compaction comes on top of both)\n")
}

func usd(puts float64) string { return fmt.Sprintf("%.4f", puts*putPrice) }

// restoreStock makes path from a database's prefix, as stock litestream does, and returns
// what the source holds.
func (d *show) restoreStock(ctx context.Context, i int, path string) (source tenant.Digest, err error) {
	db, ok := multidb.Glob(d.tree.Pattern()).Locate(d.tree.ID(i))
	if !ok {
		return source, fmt.Errorf("%s is in no place of the pattern", d.tree.ID(i))
	}
	client, err := d.replica.ReplicaClient(db)
	if err != nil {
		return source, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return source, err
	}
	opt := litestream.NewRestoreOptions()
	opt.OutputPath = path
	if err := litestream.NewReplicaWithClient(nil, client).Restore(ctx, opt); err != nil {
		return source, fmt.Errorf("litestream restore: %w", err)
	}
	if source, err = tenant.DigestedFile(ctx, d.tree.Path(i)); err != nil {
		return source, errors.Join(errors.New("source"), err)
	}
	return source, compare(ctx, source, path)
}
