package ship

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// TestWritersOfThisProcessGoOnWhileTheirDatabaseIsShipped polls a database
// without a pause while it is written through the pool's kind of connections.
func TestWritersOfThisProcessGoOnWhileTheirDatabaseIsShipped(t *testing.T) {
	for _, c := range []struct{ pageSize, writers, each, spill int }{
		{4096, 3, 100, 0},
		{512, 2, 40, 4},
	} {
		t.Run(fmt.Sprintf("%d of them, pages of %d", c.writers, c.pageSize), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := newRig(t, c.pageSize)
			r.exec(bankSchema...)
			done := make(chan struct{})
			errs := make(chan error, c.writers)
			var wg sync.WaitGroup
			for w := range c.writers {
				db := ours(t, r.path)
				wg.Go(func() {
					defer func() { _ = db.Close() }()
					errs <- bankWriter(db, rand.New(rand.NewPCG(seed, uint64(w))), c.each, c.spill)
				})
			}
			go func() { wg.Wait(); close(done) }()
			pollUntil(t, r, done, func() {})
			for range c.writers {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			bankSane(t, r)
		})
	}
}

// bankWriter commits or rolls back n transfers. With spill each is preceded by
// that much work in a cache that does not hold it.
func bankWriter(db *sql.DB, rng *rand.Rand, n, spill int) error {
	for n > 0 {
		err := bankTransaction(db, rng, spill)
		if errors.Is(sqlitedb.Classify(err), sqlitedb.ErrBusy) {
			continue // SQLite's locks are not fair
		} else if err != nil {
			return err
		}
		n--
	}
	return nil
}

func bankTransaction(db *sql.DB, rng *rand.Rand, spill int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()       // unless it was committed
	qs := []string{"UPDATE counter SET n = n"} // the write lock first
	if spill > 0 {
		qs = append(qs, "PRAGMA cache_size=5")
	}
	for range spill {
		qs = append(qs, "UPDATE account SET pad = randomblob(700)")
	}
	qs = append(qs, transfer(1+rng.IntN(bankAccounts), 1+rng.IntN(bankAccounts), rng.IntN(50), rng.IntN(900))...)
	for _, q := range qs {
		if _, err := tx.Exec(q); err != nil {
			return err
		}
	}
	if rng.IntN(4) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}
