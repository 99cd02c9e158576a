package multidb_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// TestAnIdleFleetMakesNoRequestInFiveMinutes runs the clock ahead: hot databases
// are polled every second and cold ones scanned, and the replica hears nothing.
func TestAnIdleFleetMakesNoRequestInFiveMinutes(t *testing.T) {
	root := newTree(t, 2, 20)
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rep := multidbtest.NewReplica()
		m, err := multidb.New(
			multidb.WithDiscoverer(multidb.Glob(pattern(root))),
			multidb.WithReplica(rep),
			multidb.WithHotDuration(8*time.Minute),
			multidb.WithWatch(false), // waiting for the kernel keeps the clock from running ahead
			multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for st := range m.All() {
			if _, err := m.Sync(t.Context(), st.ID); err != nil {
				t.Fatal(err)
			}
		}
		idle := func(what string, hot int) {
			t.Helper()
			<-time.After(time.Minute) // demotions and first steps are over
			if s := m.Stats(); s.Hot != hot {
				t.Errorf("%s: %d hot, want %d", what, s.Hot, hot)
			}
			before := rep.RequestStats().Total()
			<-time.After(5 * time.Minute)
			if n := rep.RequestStats().Total() - before; n != 0 {
				t.Errorf("%s: %d requests in five minutes: %v", what, n, rep.Operations())
			}
		}
		idle("hot", 40)
		<-time.After(3 * time.Minute)
		idle("cold", 0)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHotDatabasesHoldNoDescriptorAndNoGoroutine compares 10 with 1,000.
func TestHotDatabasesHoldNoDescriptorAndNoGoroutine(t *testing.T) {
	const many = 1000
	root := newTree(t, 1, many)
	rep := multidbtest.NewReplica()
	before, fdsBefore := runtime.NumGoroutine(), descriptors(t)
	f := start(t, root, multidb.WithReplica(rep), multidb.WithSyncInterval(time.Second),
		multidb.WithColdSyncInterval(time.Second), multidb.WithScanInterval(time.Hour), multidb.WithUploadConcurrency(8))
	for i := range many {
		f.sync(multidb.ID(fmt.Sprintf("project0/db%d", i)))
	}
	if s := f.m.Stats(); s.Hot != many {
		t.Fatalf("%d hot", s.Hot)
	}
	// The workers, the dispatcher, the scanner, the catalog.
	if n := runtime.NumGoroutine() - before; n > 8+20 {
		t.Errorf("%d goroutines more for %d hot databases", n, many)
	}
	if n := descriptors(t) - fdsBefore; n > 8*8 {
		t.Errorf("%d descriptors more for %d hot databases", n, many)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(entries)
}
