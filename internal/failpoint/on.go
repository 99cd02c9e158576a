//go:build failpoint

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is the variable that arms a place.
const Env = "MULTIDB_FAILPOINT"

// ErrInjected is the error of Err at an armed place.
var ErrInjected = errors.New("failpoint: injected error")

// armed is read once: a process has one fate.
var armed = sync.OnceValue(func() *place { return parse(os.Getenv(Env)) })

// place is what the environment says.
type place struct {
	name string
	left atomic.Int64 // calls until it fires
}

// parse panics on a bad value: a test that arms nothing would prove nothing.
func parse(s string) *place {
	if s == "" {
		return &place{}
	}
	name, count, ok := strings.Cut(s, "@")
	n, err := strconv.ParseInt(count, 10, 64)
	if !ok || name == "" || err != nil || n < 1 {
		panic(fmt.Sprintf("%s=%q: want name@count", Env, s))
	}
	p := &place{name: name}
	p.left.Store(n)
	return p
}

// fires reports, once, that the call is the armed one.
func (p *place) fires(name string) bool {
	return p.name == name && p.left.Add(-1) == 0
}

// Hit kills the process, as kill -9 does, if the place is armed and its count
// is reached. No deferred function runs.
func Hit(name string) {
	if armed().fires(name) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal arrives before this goroutine goes on
	}
}

// Duration returns what the variable says, MULTIDB_ and the name, or d without it.
func Duration(name string, d time.Duration) time.Duration {
	s := os.Getenv("MULTIDB_" + name)
	if s == "" {
		return d
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		panic(fmt.Sprintf("MULTIDB_%s: %v", name, err))
	}
	return v
}

// Err returns err, or ErrInjected if err is nil, the place is armed and its
// count is reached: the operation was applied and its answer lost. Standard error then says so, for a
// test that counts what it has reached.
func Err(name string, err error) error {
	if err == nil && armed().fires(name) {
		fmt.Fprintf(os.Stderr, "failpoint: an answer is lost at %s\n", name)
		return fmt.Errorf("%w at %s", ErrInjected, name)
	}
	return err
}
