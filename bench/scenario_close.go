package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

func closeScenario(short bool) scenario {
	return scenario{
		name: "close", title: "Close with N dirty, with S3 up and with S3 down",
		sizes:   []int{2000},
		runs:    2,
		multidb: closeDirty, stock: stockClose, stockSize: 200, stockRuns: 1,
		place: withS3,
		rows: []row{
			{key: "up", what: "Close with N dirty, S3 up", unit: inSeconds, bar: bar{kind: atMost, limit: 3, text: "3 s"}, stock: "up", scales: true},
			{key: "down", what: "Close with N dirty, S3 takes requests and does not answer, deadline 5 s", unit: inSeconds, bar: bar{kind: atMost, limit: closeDeadline.Seconds() + 1, text: "deadline + 1 s"}, stock: "down", scales: true},
			{key: "unnamed", what: "Close with S3 down: dirty databases that the error does not name", unit: count, bar: bar{kind: atMost, limit: 0, text: "0"}},
		},
	}
}

const closeDeadline = 5 * time.Second

// closeDirty closes a Manager twice: with S3 up, and then another one with S3
// down, which is not started again.
func closeDirty(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	seq := 0
	// dirty is a Manager in the middle of its life, that nothing makes ship, with
	// one commit of each database not shipped.
	dirty := func() (*managed, error) {
		m, err := startManager(ctx, sp.Dir, multidb.WithS3(sp.s3Config()), multidb.WithMaxHot(sp.N),
			multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour))
		if err == nil {
			err = m.writeAll(ctx, sp.N, seq+1)
		}
		if err == nil {
			err = m.syncAll(ctx, sp.N, shipWorkers)
		}
		if err == nil {
			err = m.writeAll(ctx, sp.N, seq+2)
		}
		seq += 2
		return m, err
	}
	m, err := dirty()
	if err != nil {
		return nil, err
	}
	if err := sp.control().record(ctx); err != nil {
		return nil, err
	}
	f := figures{}
	began := time.Now()
	if err := m.Close(ctx); err != nil {
		return nil, fmt.Errorf("close with S3 up: %w", err)
	}
	f["up"] = time.Since(began).Seconds()
	if err := allArrived(ctx, sp, seq); err != nil {
		return nil, fmt.Errorf("close with S3 up: %w", err)
	}

	m, err = dirty()
	if err != nil {
		return nil, err
	}
	if err := sp.control().hang(ctx); err != nil {
		return nil, err
	}
	deadline, cancel := context.WithTimeout(ctx, closeDeadline)
	defer cancel()
	began = time.Now()
	left := m.Close(deadline)
	f["down"] = time.Since(began).Seconds()
	f["unnamed"] = float64(sp.N - len(notDurable(left, map[multidb.ID]bool{})))
	return f, nil // the Manager is left as it is: the process ends
}

// allArrived fails if a database's commit has not arrived.
func allArrived(ctx context.Context, sp *spec, seq int) error {
	arrived, err := sp.control().seqs(ctx)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for _, a := range arrived {
		has[a.Prefix] = has[a.Prefix] || a.Seq >= seq
	}
	for i := range sp.N {
		if !has[string(fleetID(i))] {
			return fmt.Errorf("the last commit of %s is not in S3", fleetID(i))
		}
	}
	return nil
}

// notDurable collects the databases that an error of Close names.
func notDurable(err error, ids map[multidb.ID]bool) map[multidb.ID]bool {
	if e, ok := err.(*multidb.Error); ok && errors.Is(e, multidb.ErrNotDurable) {
		ids[e.ID] = true
		return ids
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			notDurable(err, ids)
		}
	case interface{ Unwrap() error }:
		notDurable(e.Unwrap(), ids)
	}
	return ids
}

// stockClose closes fewer: one after the other, each for as long as it takes.
func stockClose(ctx context.Context, sp *spec) (_ figures, err error) {
	if err := newFleet(ctx, sp.Dir, sp.N, 0); err != nil {
		return nil, err
	}
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	f := figures{}
	fleet := sp.stockOnS3(sp.Dir, sp.N, true)
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	if _, err := writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: upTo(sp.N), Seq: 1, Keep: true}); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	began := time.Now()
	if err := fleet.close(ctx); err != nil {
		return nil, err
	}
	f["up"] = time.Since(began).Seconds()

	if sp.Short { // one takes 30 s
		return f, nil
	}
	fleet = sp.stockOnS3(sp.Dir, 1, true)
	if err := fleet.open(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	if _, err := writer.do(job{Do: doCommit, Dir: sp.Dir, DBs: upTo(1), Seq: 2, Keep: true}); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	if err := sp.control().hang(ctx); err != nil {
		return nil, errors.Join(err, fleet.close(ctx))
	}
	began = time.Now()
	if err := fleet.close(ctx); err == nil {
		return nil, errors.New("stock closed without an error, though S3 is down")
	}
	f["down"] = time.Since(began).Seconds() * float64(sp.N)
	return f, nil
}
