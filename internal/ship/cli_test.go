//go:build sqlite3cli

package ship

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var cliRunsFlag = flag.Int("ship.cliruns", 3, "how many databases to write by other processes")

// TestWritersInOtherProcessesAreFollowed runs writers that know nothing of us,
// with the sqlite3 command: they checkpoint in every mode and at every number of
// pages, close and reopen, vacuum and spill.
func TestWritersInOtherProcessesAreFollowed(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip(err)
	}
	for range *cliRunsFlag {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { followProcesses(t, seed) })
	}
}

func followProcesses(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 99))
	r := newRig(t, []int{512, 1024, 4096, 16384}[rng.IntN(4)], fmt.Sprintf("PRAGMA auto_vacuum=%d", rng.IntN(3)))
	r.exec(bankSchema...)
	if rng.IntN(2) == 0 {
		r.closeApp() // else a connection of ours stays open beside them
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	writers := 1 + rng.IntN(3)
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() { errs <- cliWriter(t.Context(), r.path, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	go func() { wg.Wait(); close(done) }()
	pollUntil(t, r, done, func() {
		if r.app != nil && !lockHeld(t, r.path) {
			t.Fatal("the lock of our open connection is gone")
		}
	})
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	bankSane(t, r)
}

// cliWriter runs the sqlite3 command again and again.
func cliWriter(ctx context.Context, path string, rng *rand.Rand) error {
	for range 6 {
		cmd := exec.CommandContext(ctx, "sqlite3", "-bail", path)
		cmd.Stdin = strings.NewReader(cliScript(rng))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		// A script that finds the database locked stops in a transaction, which
		// its end rolls back.
		if err := cmd.Run(); err != nil && !strings.Contains(stderr.String(), "locked") {
			return fmt.Errorf("%w: %s", err, stderr.String())
		}
	}
	return nil
}

func cliScript(rng *rand.Rand) string {
	var b strings.Builder
	say := func(format string, a ...any) { fmt.Fprintf(&b, format+";\n", a...) }
	b.WriteString(".timeout 20000\n")
	say("PRAGMA wal_autocheckpoint=%d", []int{0, 1, 5, 50, 300, 1000}[rng.IntN(6)])
	if rng.IntN(2) == 0 {
		say("PRAGMA cache_size=5")
	}
	for range 10 + rng.IntN(40) {
		switch rng.IntN(25) {
		case 0:
			say("VACUUM")
		case 1:
			say("PRAGMA incremental_vacuum(10)")
		case 2, 3:
			say("PRAGMA wal_checkpoint(%s)", []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[rng.IntN(4)])
		default:
			say("BEGIN IMMEDIATE")
			for range rng.IntN(6) * rng.IntN(2) {
				say("UPDATE account SET pad = randomblob(%d)", rng.IntN(3000))
			}
			for _, q := range transfer(1+rng.IntN(bankAccounts), 1+rng.IntN(bankAccounts), rng.IntN(50), rng.IntN(900)) {
				say("%s", q)
			}
			say("%s", []string{"COMMIT", "COMMIT", "COMMIT", "ROLLBACK"}[rng.IntN(4)])
		}
	}
	return b.String()
}
