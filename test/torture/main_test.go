package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

const (
	timeEnv  = "MULTIDB_TORTURE_TIME"
	seedEnv  = "MULTIDB_TORTURE_SEED"
	childEnv = "MULTIDB_TORTURE_CHILD" // what a child process is to do
)

func TestMain(m *testing.M) {
	isolateAWS()
	if job := os.Getenv(childEnv); job != "" {
		if err := runChild(job); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if job := os.Getenv(machineEnv); job != "" {
		if err := runMachine(job); err != nil {
			fmt.Fprintln(os.Stderr, "machine:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if job := os.Getenv(lifeEnv); job != "" {
		if err := runLife(job); err != nil {
			fmt.Fprintln(os.Stderr, "life:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	registerToxics()
	goleak.VerifyTestMain(m)
}

// longForm is how long each test is to run; 0: the short form.
func longForm(t testing.TB) time.Duration {
	s := os.Getenv(timeEnv)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		t.Fatalf("%s=%q: want a duration such as 2h", timeEnv, s)
	}
	return d
}

// eachSeed runs fn for n seeds from 1 on in the short form, half of them with
// -short, in the long form from a random one on for as many as the time allows,
// some of them at once, and ends at the first failure.
func eachSeed(t *testing.T, n, atOnce int, fn func(t *testing.T, seed uint64)) {
	t.Helper()
	first, only := uint64(1), false
	long := longForm(t)
	if long > 0 {
		first = rand.Uint64() >> 16
	}
	if s := os.Getenv(seedEnv); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q: want a number", seedEnv, s)
		}
		first, only = v, true
	}
	switch {
	case long == 0 && only:
		n = 1
	case testing.Short():
		n = (n + 1) / 2 // the race detector's run
	}
	began := time.Now()
	for i := 0; ; {
		if long > 0 && time.Since(began) >= long {
			t.Logf("%d seeds in %v; to go on: %s=%d", i, time.Since(began).Round(time.Second), seedEnv, first+uint64(i))
			return
		} else if long == 0 && i >= n {
			return
		}
		t.Run("seeds", func(group *testing.T) {
			for range min(atOnce, n) {
				seed := first + uint64(i)
				i++
				group.Run(fmt.Sprint(seed), func(st *testing.T) {
					st.Parallel()
					defer func() {
						if st.Failed() {
							st.Logf("replay: %s=%d go -C test test ./torture -count=1 -run '^%s$'", seedEnv, seed, t.Name())
						}
					}()
					fn(st, seed)
				})
			}
		})
		if t.Failed() {
			return
		}
	}
}

// eventually polls until cond returns "" and reports its last answer after the
// limit.
func eventually(t testing.TB, limit time.Duration, cond func() string) bool {
	t.Helper()
	end := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := cond()
		if missing == "" {
			return true
		}
		if time.Now().After(end) {
			t.Errorf("after %v: %s", limit, missing)
			return false
		}
		<-tick.C
	}
}
