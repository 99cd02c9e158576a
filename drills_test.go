package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// drilled is a fleet whose clock is run ahead, with what its drills told.
type drilled struct {
	*fleet
	rep   *multidbtest.Replica
	began time.Time
	base  time.Time
	opts  []multidb.Option

	mu    sync.Mutex
	told  []string // of all its Managers: the ID, and an exclamation mark where the drill failed
	times []time.Time
	errs  []error
}

// drills runs fn in a bubble, over projects of one database each.
func drills(t *testing.T, dbs int, opt multidb.DrillOptions, fn func(*testing.T, *drilled), opts ...multidb.Option) {
	root := newTree(t, 1, dbs)
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		d := &drilled{rep: multidbtest.NewReplica(), began: time.Now(), base: base}
		d.fleet = &fleet{t: t, root: root, events: newEventLog()}
		d.opts = append([]multidb.Option{
			multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(d.rep), multidb.WithWatch(false),
			multidb.WithScanInterval(10 * time.Minute), multidb.WithClock(d.now), multidb.WithRand(func() float64 { return 0.5 }),
			multidb.WithDrills(opt), multidb.WithObserver(d.observe),
		}, opts...)
		d.start()
		t.Cleanup(func() { _ = d.close() })
		for i := range dbs {
			d.sync(multidb.ID(fmt.Sprint("project0/db", i)))
		}
		fn(t, d)
		if err := d.close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(root, ".multidb/spool")); err != nil || len(left) > 0 {
			t.Errorf("the spool has %v, %v", left, err)
		}
	})
}

func (d *drilled) now() time.Time { return d.base.Add(time.Since(d.began)) }

func (d *drilled) observe(ev multidb.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch ev.Type {
	case multidb.EventDrill:
		d.told = append(d.told, strings.TrimPrefix(string(ev.ID), "project0/"))
	case multidb.EventDrillFailed:
		d.told = append(d.told, strings.TrimPrefix(string(ev.ID), "project0/")+"!")
	default:
		return
	}
	d.times, d.errs = append(d.times, ev.Time), append(d.errs, ev.Err)
}

func (d *drilled) start() {
	d.t.Helper()
	m, err := multidb.New(d.opts...)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := m.Start(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	d.m = m
}

func (d *drilled) restart() {
	d.t.Helper()
	if err := d.close(); err != nil {
		d.t.Fatal(err)
	}
	d.start()
}

// pass lets time pass, and whatever is due in it happen.
func (d *drilled) pass(by time.Duration) {
	<-time.After(by)
	synctest.Wait()
}

func (d *drilled) expect(when string, want ...string) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.told, want) {
		d.t.Fatalf("%s: the drills told of %q, want %q: %v", when, d.told, want, d.errs)
	}
}

func (d *drilled) status(id string) multidb.Status {
	d.t.Helper()
	s, err := d.m.Status(multidb.ID("project0/" + id))
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// flip changes a bit in each file of a database's prefix, or changes it back.
func (d *drilled) flip(id string) {
	d.t.Helper()
	prefix := d.status(id).Prefix
	for _, f := range d.rep.Files(prefix) {
		if err := d.rep.Corrupt(prefix, f.Level, f.MinTXID, f.MaxTXID, nil); err != nil {
			d.t.Fatal(err)
		}
	}
}

func TestDrillsProveEveryBackupInTurnAndGoOnAfterARestart(t *testing.T) {
	drills(t, 4, multidb.DrillOptions{PerDay: 4}, func(t *testing.T, d *drilled) {
		if s := d.m.Stats().Drills; s != (multidb.DrillStats{Unproved: 4}) {
			t.Errorf("at the start: %+v", s)
		}
		d.pass(12 * time.Hour)
		d.expect("half a day", "db0", "db1")
		first := d.times[0]
		if s := d.m.Stats().Drills; s.Done != 2 || s.Unproved != 2 || s.Oldest.UnixMilli() != first.UnixMilli() {
			t.Errorf("after half a day, of which the first was at %v: %+v", first, s)
		}
		d.restart()
		if got := d.status("db0").ProvedAt; got.UnixMilli() != first.UnixMilli() {
			t.Errorf("after a restart db0 was proved at %v, want %v", got, first)
		}
		if got := d.status("db2"); !got.ProvedAt.IsZero() || got.ProvedErr != nil {
			t.Errorf("db2 was proved at %v, %v", got.ProvedAt, got.ProvedErr)
		}
		d.pass(12 * time.Hour)
		d.expect("a day", "db0", "db1", "db2", "db3")
		d.pass(24 * time.Hour)
		d.expect("two days", "db0", "db1", "db2", "db3", "db0", "db1", "db2", "db3")
		for i, at := range d.times[4:] {
			if at.Sub(d.times[i]) < 20*time.Hour {
				t.Errorf("drill %d came %v after that of four before", i+4, at.Sub(d.times[i]))
			}
		}
		if s := d.m.Stats().Drills; s.Unproved != 0 || s.Failed != 0 || s.Postponed != 0 {
			t.Errorf("after two days: %+v", s)
		}
		if ok, worst := d.m.Healthy(time.Minute); !ok {
			t.Errorf("it is not healthy: %v", worst)
		}
	})
}

func TestADatabaseIsNotProvedMoreThanOnceADay(t *testing.T) {
	drills(t, 2, multidb.DrillOptions{PerDay: 100}, func(t *testing.T, d *drilled) {
		d.pass(19 * time.Hour)
		d.expect("19 hours", "db0", "db1")
	})
}

func TestADrillFindsADamagedBackupAndHealthyTellsUntilOneSucceeds(t *testing.T) {
	drills(t, 2, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		d.flip("db1")
		d.pass(2 * time.Hour)
		d.expect("two hours", "db0", "db1!")
		for _, when := range []string{"before a restart", "after it"} {
			s := d.status("db1")
			if !errors.Is(s.ProvedErr, multidb.ErrUnproved) || !s.ProvedAt.IsZero() || s.Err != nil {
				t.Errorf("%s: db1 has %v, proved at %v, and shipping fails: %v", when, s.ProvedErr, s.ProvedAt, s.Err)
			}
			if ok, worst := d.m.Healthy(time.Hour); ok || len(worst) != 1 || worst[0].ID != "project0/db1" || !errors.Is(worst[0].Err, multidb.ErrUnproved) {
				t.Errorf("%s: Healthy says %v, %v", when, ok, worst)
			}
			if s := d.m.Stats().Drills; s.Failing != 1 || s.Unproved != 1 {
				t.Errorf("%s: %+v", when, s)
			}
			d.restart()
		}
		d.flip("db1")
		d.pass(25 * time.Hour)
		if s := d.status("db1"); s.ProvedAt.IsZero() || s.ProvedErr != nil || !slices.Contains(d.told, "db1") {
			t.Errorf("it was mended, and has %v, proved at %v: %q", s.ProvedErr, s.ProvedAt, d.told)
		}
		if ok, worst := d.m.Healthy(time.Hour); !ok {
			t.Errorf("it was mended, and Healthy says %v", worst)
		}
		// What was good once is told of again when it is not any more, and when that was.
		good := d.status("db1").ProvedAt
		d.flip("db1")
		d.pass(25 * time.Hour)
		if s := d.status("db1"); !s.ProvedAt.Equal(good) || s.ProvedErr == nil {
			t.Errorf("it was proved at %v and damaged then: proved at %v, %v", good, s.ProvedAt, s.ProvedErr)
		}
	})
}

func TestADrillFindsABackupThatLacksWhatWasAcknowledged(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		d.pass(30*time.Minute - time.Since(d.began) - time.Second) // so that nothing is compacted before the drill
		d.insert("project0/db0", "more")
		d.sync("project0/db0")
		s := d.status("db0")
		files := d.rep.Files(s.Prefix)
		for _, f := range files {
			if f.MaxTXID == s.TXID {
				if err := d.rep.Delete(s.Prefix, f.Level, f.MinTXID, f.MaxTXID); err != nil {
					t.Fatal(err)
				}
			}
		}
		d.pass(time.Hour)
		d.expect("an hour", "db0!")
		if err := d.errs[0]; !errors.Is(err, multidb.ErrUnproved) || !strings.Contains(err.Error(), "was acknowledged") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestADrillFindsThatABackupIsGone(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		prefix := d.status("db0").Prefix
		for _, f := range d.rep.Files(prefix) {
			if err := d.rep.Delete(prefix, f.Level, f.MinTXID, f.MaxTXID); err != nil {
				t.Fatal(err)
			}
		}
		d.pass(time.Hour)
		d.expect("an hour", "db0!")
		if !errors.Is(d.errs[0], multidb.ErrNoBackup) {
			t.Errorf("the error is %v", d.errs[0])
		}
	})
}

func TestAReplicaThatDoesNotAnswerIsNoFailedDrill(t *testing.T) {
	for name, fault := range map[string]multidbtest.Fault{
		"a listing": {Op: multidbtest.OpList, Err: errors.New("no answer")},
		"a read":    {Op: multidbtest.OpOpen, Err: errors.New("no answer")},
	} {
		t.Run(name, func(t *testing.T) {
			drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
				in := d.rep.Inject(fault)
				d.pass(3 * time.Hour)
				d.expect("three hours without an answer")
				if s := d.m.Stats().Drills; s.Postponed == 0 || s.Failed != 0 || s.Unproved != 1 {
					t.Errorf("%+v", s)
				}
				if ok, worst := d.m.Healthy(time.Minute); !ok {
					t.Errorf("Healthy says %v", worst)
				}
				in.Clear()
				d.pass(2 * time.Hour)
				d.expect("two hours later", "db0")
			})
		})
	}
}

// TestWhatLooksDamagedOnceIsLookedAtAgain: bytes may change on their way, and files while
// they are read.
func TestWhatLooksDamagedOnceIsLookedAtAgain(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		opened := 0
		d.rep.Inject(multidbtest.Fault{Op: multidbtest.OpOpen, Match: func(multidbtest.Operation) bool {
			if opened++; opened < 3 {
				d.flip("db0") // for the first time, and back for the second
			}
			return false
		}})
		d.pass(time.Hour)
		d.expect("an hour", "db0")
		if opened < 2 {
			t.Errorf("the file was opened %d times", opened)
		}
	})
}

func TestHealthyNamesABackupThatWasNotProvedForMaxAge(t *testing.T) {
	drills(t, 3, multidb.DrillOptions{PerDay: 1, MaxAge: 50 * time.Hour}, func(t *testing.T, d *drilled) {
		d.pass(49 * time.Hour)
		d.expect("two days", "db0", "db1")
		if ok, worst := d.m.Healthy(time.Minute); !ok {
			t.Errorf("after 49 hours Healthy says %v", worst)
		}
		d.restart() // which does not make db2 a database that is new
		d.pass(2 * time.Hour)
		ok, worst := d.m.Healthy(time.Minute)
		if ok || len(worst) != 1 || worst[0].ID != "project0/db2" || !errors.Is(worst[0].Err, multidb.ErrUnproved) {
			t.Errorf("after 51 hours Healthy says %v, %v", ok, worst)
		}
		d.pass(22 * time.Hour) // db2 has been proved, and db0 is 12 + 50 hours ago
		d.expect("three days", "db0", "db1", "db2")
		if ok, worst := d.m.Healthy(time.Minute); ok || len(worst) != 1 || worst[0].ID != "project0/db0" || worst[0].ProvedAt.IsZero() {
			t.Errorf("after 73 hours Healthy says %v, %v", ok, worst)
		}
	})
}

func TestARemovedDatabaseIsNotProvedWhenItComesBack(t *testing.T) {
	for name, between := range map[string]func(*drilled){
		"while it is followed":         func(*drilled) {},
		"and the process is restarted": (*drilled).restart,
	} {
		t.Run(name, func(t *testing.T) {
			drills(t, 2, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
				d.pass(2 * time.Hour)
				d.expect("two hours", "db0", "db1")
				path, kept := d.status("db0").Path, filepath.Join(t.TempDir(), "kept.db")
				if err := os.Rename(path, kept); err != nil {
					t.Fatal(err)
				}
				d.pass(11 * time.Minute)
				if n := d.m.Stats().Databases; n != 1 {
					t.Fatalf("%d databases are known", n)
				}
				between(d)
				if err := os.Rename(kept, path); err != nil {
					t.Fatal(err)
				}
				d.pass(11 * time.Minute)
				d.restart()
				if at := d.status("db0").ProvedAt; !at.IsZero() {
					t.Errorf("it was proved at %v", at)
				}
				if at := d.status("db1").ProvedAt; at.IsZero() {
					t.Error("the other one is not proved any more")
				}
			})
		})
	}
}

func TestAnEvictedDatabaseIsProvedAndStaysEvicted(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		if err := d.m.Evict(t.Context(), "project0/db0"); err != nil {
			t.Fatal(err)
		}
		d.pass(time.Hour)
		d.expect("an hour", "db0")
		if s := d.status("db0"); s.Resident || s.LocalBytes != 0 || s.ProvedAt.IsZero() {
			t.Errorf("%+v", s)
		}
		if s := d.m.Stats().Disk; s.Used != 0 {
			t.Errorf("%d bytes of the disk's limit are used", s.Used)
		}
	}, multidb.WithMaxDisk(1<<30))
}

func TestADrillWaitsForRoomWithinTheLimitOfTheDisk(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		h, err := d.m.Acquire(t.Context(), "project0/db0")
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		if _, err := h.DB().Exec("INSERT INTO t(v) VALUES(zeroblob(700000))"); err != nil {
			t.Fatal(err)
		}
		d.sync("project0/db0")
		if d.m.Stats().Drills.Done > 0 {
			return // its turn was drawn before it was large
		}
		d.pass(2 * time.Hour)
		if s := d.m.Stats(); s.Drills.Done != 0 || s.Drills.Postponed == 0 {
			t.Errorf("%+v, of %+v", s.Drills, s.Disk)
		}
	}, multidb.WithMaxDisk(1<<20), multidb.WithHotDuration(100*time.Hour))
}

func TestDrillsReadTheFleetLog(t *testing.T) {
	drills(t, 2, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		d.insert("project0/db1", "in the log")
		d.sync("project0/db1")
		d.pass(2 * time.Hour)
		d.expect("two hours", "db0", "db1")
	}, multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet", UnpackInterval: 100 * time.Hour}), multidb.WithHotDuration(100*time.Hour))
}

func TestCloseEndsADrill(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		in := d.rep.Inject(multidbtest.Fault{Op: multidbtest.OpOpen, Hang: true})
		<-in.Hit()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := d.m.Close(ctx); err != nil {
			t.Fatal(err)
		}
		in.Clear()
		d.expect("a drill that was ended")
		d.start()
		if s := d.status("db0"); !s.ProvedAt.IsZero() || s.ProvedErr != nil {
			t.Errorf("it is proved at %v, %v", s.ProvedAt, s.ProvedErr)
		}
	})
}

func TestDrillsNeedAReplicaAndANumber(t *testing.T) {
	for name, opts := range map[string][]multidb.Option{
		"no replica": {multidb.WithDrills(multidb.DrillOptions{PerDay: 1})},
		"no drills":  {multidb.WithDrills(multidb.DrillOptions{}), multidb.WithReplica(multidbtest.NewReplica())},
		"an age":     {multidb.WithDrills(multidb.DrillOptions{PerDay: 1, MaxAge: -1}), multidb.WithReplica(multidbtest.NewReplica())},
	} {
		_, err := multidb.New(append(opts, multidb.WithDiscoverer(multidb.Glob("/data/{{database}}.db")))...)
		if !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), "WithDrills") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestADrillMakesTheRequestsOfARestore: one listing, one read of metadata.json, and a read of
// each file that the newest state needs.
func TestADrillMakesTheRequestsOfARestore(t *testing.T) {
	drills(t, 1, multidb.DrillOptions{PerDay: 24}, func(t *testing.T, d *drilled) {
		d.pass(29 * time.Minute)
		d.rep.ResetOperations()
		d.pass(2 * time.Minute)
		d.expect("the first part of the day", "db0")
		count := map[multidbtest.Op]int{}
		for _, op := range d.rep.Operations() {
			count[op.Op]++
		}
		if count[multidbtest.OpList] != 1 || count[multidbtest.OpReadMetadata] != 1 || count[multidbtest.OpOpen] != 1 || len(count) != 3 {
			t.Errorf("it made %v", count)
		}
	})
}
