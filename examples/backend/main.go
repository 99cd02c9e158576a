// Backend is what a small SaaS team would write: an HTTP service with a SQLite file for each
// customer. It has signup, requests of a customer, payments that are at the backup before
// they are confirmed, schema migrations, and for support a restore to any moment, erasure, a
// page and metrics.
//
//	go run ./examples/backend -data data -backups backups
//	curl -X POST localhost:8080/customers -d '{"name": "acme", "email": "ann@acme.example"}'
//	curl -X POST localhost:8080/customers/acme/payments -d '{"key": "order-1", "cents": 1900}'
//	curl localhost:8080/customers/acme/payments
//
// With BACKEND_ADMIN_TOKEN set (16 characters or more), /ops/ has a page and metrics, and
// /admin/ is there for those who send it as a bearer token: a copy of a customer's database, as
// it is or as it was, and erasure.
//
//	curl -H "Authorization: Bearer $BACKEND_ADMIN_TOKEN" -o acme.db 'localhost:8080/admin/customers/acme/copy?at=2026-01-31T12:00:00Z'
//	curl -H "Authorization: Bearer $BACKEND_ADMIN_TOKEN" -X DELETE localhost:8080/admin/customers/acme
//
// To lose the machine, stop it (kill -9 will do), delete data, and start it: the first request of
// a customer brings the database back.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/multidb-go/multidb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("backend: it ends", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("backend", flag.ContinueOnError)
	addr := fs.String("addr", "localhost:8080", "address to listen on")
	data := fs.String("data", "data", "directory of the customers' databases")
	backups := fs.String("backups", "backups", "directory of their backups, if there is no bucket")
	bucket := fs.String("bucket", "", "S3 bucket of their backups; credentials and region are the environment's")
	migrate := fs.Bool("migrate", false, "migrate all databases, and end: before a deploy")
	if err := fs.Parse(args); err != nil {
		return err
	}
	replica, err := backupsAt(*bucket, *backups)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*data, 0o750); err != nil {
		return err
	}
	m, err := open(*data, replica)
	if err != nil {
		return err
	}
	// Close ships what is left. It is called last, when no request is in progress.
	defer func() {
		if err = errors.Join(err, within(30*time.Second, m.Close)); err == nil {
			slog.Info("backend: it has ended, and the backup has everything")
		}
	}()
	if err := m.Start(ctx); err != nil {
		return err
	}
	if *migrate {
		return migrateAll(ctx, m)
	}

	handler, ops, err := routes(m, os.Getenv("BACKEND_ADMIN_TOKEN"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if ops != nil {
		running, end := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { ops.Run(running) }) // its samples of the fleet
		defer func() { end(); wg.Wait() }()
	}
	slog.Info("backend: it listens", "addr", "http://"+listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done(): // an orderly stop: requests end, then what they wrote is shipped
		slog.Info("backend: it stops")
		err := within(10*time.Second, server.Shutdown)
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}
}

func backupsAt(bucket, dir string) (multidb.ReplicaFactory, error) {
	if bucket == "" {
		return multidb.NewFileReplica(dir, "customers/{{customer}}/")
	}
	return multidb.NewS3Replica(multidb.S3Config{
		Bucket: bucket, Path: "customers/{{customer}}/", Region: cmp.Or(os.Getenv("AWS_REGION"), "us-east-1"), Endpoint: os.Getenv("AWS_ENDPOINT_URL_S3"),
	})
}

func open(data string, replica multidb.ReplicaFactory, more ...multidb.Option) (*multidb.Manager, error) {
	return multidb.New(append([]multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(data, "{{customer}}.db"))),
		multidb.WithReplica(replica),
		multidb.WithRestoreOnOpen(),                // a machine that was lost is one that is empty
		multidb.WithPragma("foreign_keys", "on"),   // SQLite's own default is off
		multidb.WithOpenHook(migrateOne),           // so nobody gets a database of an older schema
		multidb.WithRetention(30 * 24 * time.Hour), // how far back support can go
		multidb.WithLogger(slog.Default()),
	}, more...)...)
}

func within(limit time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("it did not stop within %s", limit))
	defer cancel()
	return stop(ctx)
}
