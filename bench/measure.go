package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuTime is what this process has used so far, in seconds of one core.
func cpuTime() float64 {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		panic(err) // only for a wrong argument
	}
	return seconds(ru.Utime) + seconds(ru.Stime)
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// residentBytes is how much memory this process has.
func residentBytes() (float64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(string(v)), " kB"), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmRSS")
}

// heapBytes is what is alive on the heap.
func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}

// descriptors counts the open ones of this process: all, and those that
// connections to databases below root hold, which are a database, its WAL for
// each, and one WAL index for all of a database.
func descriptors(root string) (all, ofConns float64, err error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	mains, wals := 0, 0
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // that of the directory itself, or closed just now
		}
		all++
		if root == "" || !strings.HasPrefix(to, root+"/") {
			continue
		}
		switch to = strings.TrimSuffix(to, " (deleted)"); {
		case strings.HasSuffix(to, ".db"):
			mains++
		case strings.HasSuffix(to, ".db-shm"):
			ofConns++
		case strings.HasSuffix(to, ".db-wal"):
			wals++
		}
	}
	return all, ofConns + float64(mains+min(wals, mains)), nil
}

// machineTimes are the seconds that all cores together were busy, and waited
// for the disk with nothing else to do, since the machine started.
func machineTimes() (busy, ioWait float64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins %q", line)
	}
	const perSecond = 100 // USER_HZ
	for i, s := range f[1:9] {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, 0, err
		}
		switch i {
		case 3: // idle
		case 4:
			ioWait = v / perSecond
		default:
			busy += v / perSecond
		}
	}
	return busy, ioWait, nil
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until asks now and then until the answer is yes.
func until(ctx context.Context, what string, every, limit time.Duration, ok func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		yes, err := ok()
		if yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// quantile is the smallest value that a share q of all does not exceed. It
// sorts them.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	i := int(q*float64(len(v))+0.999999) - 1
	return v[min(max(i, 0), len(v)-1)]
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 && n > 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return quantile(v, 0.5)
}
