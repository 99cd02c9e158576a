package multidb_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The long form has the variables of test/torture.
const (
	simTimeEnv = "MULTIDB_TORTURE_TIME"
	simSeedEnv = "MULTIDB_TORTURE_SEED"
)

// eachSeed calls run for n seeds, or for as long as simTimeEnv says, a few at once, each
// in a bubble of virtual time with a directory of its own. It fails with how to replay.
// done is what the runs did together.
func eachSeed(t *testing.T, n int, done fmt.Stringer, run func(t *testing.T, seed uint64, dir string)) {
	t.Helper()
	first, only := uint64(1), false // the short form is the same each time
	if s := os.Getenv(simSeedEnv); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q: want a number", simSeedEnv, s)
		}
		first, only = v, true
	}
	var long time.Duration
	if s := os.Getenv(simTimeEnv); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil || long <= 0 {
			t.Fatalf("%s=%q: want a duration such as 2h", simTimeEnv, s)
		}
		if !only {
			first = rand.Uint64() >> 16
		}
	}
	switch {
	case only && long == 0:
		n = 1
	case testing.Short():
		n /= 8 // the race detector's run
	}
	began := time.Now()
	const atOnce = 4
	for i := 0; long == 0 && i < n || long > 0 && time.Since(began) < long; {
		t.Run("seeds", func(group *testing.T) {
			for range min(atOnce, n) {
				seed := first + uint64(i)
				i++
				group.Run(fmt.Sprint(seed), func(st *testing.T) {
					st.Parallel()
					defer func() {
						if st.Failed() {
							st.Logf("replay: %s=%d go test -count=1 -run '^%s$' .", simSeedEnv, seed, t.Name())
						}
					}()
					dir := memoryDir(st)
					synctest.Test(st, func(st *testing.T) {
						run(st, seed, dir)
					})
				})
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%v from seed %d in %v", done, first, time.Since(began).Round(time.Second))
}

// memoryDir is a directory in memory, where there is one with much room (containers often
// have one of 64 MiB): for tests that commit a lot, and to which an fsync is nothing but time.
func memoryDir(t *testing.T) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 1<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "multidb-sim-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// findings are what the goroutines of a simulation found out, for the model, which one
// goroutine has. Safe for concurrent use.
type findings struct {
	found sync.Mutex // guards next
	next  []func()
}

// later gives the model something that a goroutine found out.
func (f *findings) later(fn func()) {
	f.found.Lock()
	defer f.found.Unlock()
	f.next = append(f.next, fn)
}

// takeIn runs what later was given since the last call.
func (f *findings) takeIn() {
	f.found.Lock()
	next := f.next
	f.next = nil
	f.found.Unlock()
	for _, fn := range next {
		fn()
	}
}
