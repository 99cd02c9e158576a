package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/cli"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// show is what the steps of the demo share.
type show struct {
	m       *multidb.Manager
	replica *multidb.S3Replica
	tree    tenant.Tree
	rnd     *rand.Rand
	out     io.Writer
	before  multidb.Stats // at the end of the last round

	fleetLog bool
	began    time.Time
}

// firstCopy waits until every database is at the replica as it was found.
func (d *show) firstCopy(ctx context.Context) error {
	began := time.Now()
	if err := d.syncAll(ctx); err != nil {
		return err
	}
	say(d.out, "\nFirst copy of every database reached S3 in %s.\n", term.Duration(time.Since(began)))
	d.printTraffic()
	return nil
}

// syncAll waits until S3 has everything. All callers wait at once, so that with a fleet log
// they share an object.
func (d *show) syncAll(ctx context.Context) error {
	errs := make([]error, d.tree.Len())
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = d.m.Sync(ctx, d.tree.ID(i)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// written is a commit that is on its way to the replica.
type written struct {
	rows   int64
	before multidb.TXID // what the replica had
	at     time.Time
	lag    time.Duration // zero until the replica has it
}

// round writes one transaction to each of project0's databases and, in the
// first and the last round, of project1's; waits until S3 has them; and shows
// where every database stands.
func (d *show) round(ctx context.Context, i, rounds int) error {
	writes := map[multidb.ID]*written{}
	for n := range d.tree.Len() {
		if n >= d.tree.Each && i != 0 && i != rounds-1 {
			continue // project1 rests, and so goes cold
		}
		id := d.tree.ID(n)
		w, err := d.write(ctx, id)
		if err != nil {
			return err
		}
		writes[id] = w
	}
	if err := d.wait(ctx, writes); err != nil {
		return err
	}
	table := [][]string{{"database", "tier", "txid", "lag", "rows written"}}
	for n := range d.tree.Len() {
		st, err := d.m.Status(d.tree.ID(n))
		if err != nil {
			return err
		}
		lag, rows := "-", "-"
		if w := writes[st.ID]; w != nil {
			lag, rows = term.Duration(w.lag), fmt.Sprint(w.rows)
		}
		table = append(table, []string{st.ID.String(), st.Tier.String(), fmt.Sprint(uint64(st.TXID)), lag, rows})
	}
	say(d.out, "\nRound %d of %d\n", i+1, rounds)
	term.Table(d.out, table)
	d.printTraffic()
	return nil
}

func (d *show) write(ctx context.Context, id multidb.ID) (*written, error) {
	st, err := d.m.Status(id)
	if err != nil {
		return nil, err
	}
	w := &written{before: st.TXID}
	err = d.m.Do(ctx, id, func(db *sql.DB) error {
		w.rows, err = tenant.Write(ctx, db, d.rnd)
		return err
	})
	w.at = time.Now()
	return w, err
}

// An acknowledgement is looked for every pollInterval, and given up on after
// patience: by then something is wrong that the status tells.
const (
	pollInterval = 10 * time.Millisecond
	patience     = 30 * time.Second
)

// wait lets the commits reach the replica by themselves, as an application
// would that does not call Sync, and notes how long each took.
func (d *show) wait(ctx context.Context, writes map[multidb.ID]*written) error {
	deadline := time.Now().Add(patience)
	for pending := len(writes); pending > 0; {
		for id, w := range writes {
			if w.lag != 0 {
				continue
			}
			st, err := d.m.Status(id)
			if err != nil {
				return err
			}
			switch now := time.Now(); {
			case st.TXID > w.before:
				w.lag = max(now.Sub(w.at), 1)
				pending--
			case now.After(deadline) && st.Err != nil:
				return st.Err
			case now.After(deadline):
				return fmt.Errorf("%s: the last commit has not reached S3 within %v", id, patience)
			}
		}
		if err := cli.Sleep(ctx, pollInterval); err != nil {
			return err
		}
	}
	return nil
}

// printTraffic tells what reached S3 since it was called last.
func (d *show) printTraffic() {
	s, b := d.m.Stats(), d.before
	d.before = s
	r, q := s.Requests, b.Requests
	say(d.out, "  reached S3: %d transactions, %s in %d PUT (and %d GET, %d LIST, %d DELETE; %d errors)\n",
		s.Transactions-b.Transactions, term.Bytes(r.BytesOut-q.BytesOut), r.Put-q.Put,
		r.Get-q.Get+r.Head-q.Head, r.List-q.List, r.Delete-q.Delete, r.Errors-q.Errors)
}
