package ship

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestWritersOfThisProcessGoOnWhileTheirDatabaseIsShipped polls a database
// without a pause while it is written through the pool's kind of connections.
func TestWritersOfThisProcessGoOnWhileTheirDatabaseIsShipped(t *testing.T) {
	for _, c := range []struct{ pageSize, writers, each, spill int }{
		{4096, 3, 300, 0},
		{512, 2, 120, 8},
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

// bankWriter commits n transfers, and rolls some more back. With spill every
// transaction is preceded by that much work in a cache that does not hold it.
func bankWriter(db *sql.DB, rng *rand.Rand, n, spill int) error {
	for range n {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE counter SET n = n"); err != nil { // the write lock first
			return err
		}
		if spill > 0 {
			if _, err := tx.Exec("PRAGMA cache_size=5"); err != nil {
				return err
			}
		}
		for range spill {
			if _, err := tx.Exec("UPDATE account SET pad = randomblob(700)"); err != nil {
				return err
			}
		}
		for _, q := range transfer(1+rng.IntN(bankAccounts), 1+rng.IntN(bankAccounts), rng.IntN(50), rng.IntN(900)) {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		if rng.IntN(4) == 0 {
			err = tx.Rollback()
		} else {
			err = tx.Commit()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
