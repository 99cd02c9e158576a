package ship

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkStepIdle is a step that finds nothing new.
func BenchmarkStepIdle(b *testing.B) {
	r := newRig(b, 4096)
	r.insert(50, 100)
	r.ship(RuleResync)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.s.Step(b.Context(), r.db); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStepOneSmallCommit is a commit of one row and the step that ships
// it; the commit itself is not in the time.
func BenchmarkStepOneSmallCommit(b *testing.B) {
	r := newRig(b, 4096)
	r.insert(50, 100)
	r.ship(RuleResync)
	r.db.Client = &discardClient{memClient: r.client}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		if n++; n%500 == 0 {
			if _, err := r.s.Checkpoint(b.Context(), r.db); err != nil {
				b.Fatal(err)
			}
		}
		r.exec("UPDATE t SET v = randomblob(100) WHERE k = 7")
		b.StartTimer()
		if res, err := r.s.Step(b.Context(), r.db); err != nil || res.Txns != 1 {
			b.Fatal(res, err)
		}
	}
}

// BenchmarkSealOneSmallCommit is the seal of a database that was written once
// since the last: what a demotion costs besides its compaction.
func BenchmarkSealOneSmallCommit(b *testing.B) {
	r := newRig(b, 4096)
	r.insert(50, 100)
	r.ship(RuleResync)
	r.db.Client = &discardClient{memClient: r.client}
	b.ReportAllocs()
	var before, after syscall.Rusage
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		r.exec("UPDATE t SET v = randomblob(100) WHERE k = 7")
		if res, err := r.s.Step(b.Context(), r.db); err != nil || res.Txns != 1 {
			b.Fatal(res, err)
		}
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if res, err := r.s.Seal(b.Context(), r.db); err != nil || !res.Complete {
			b.Fatal(res, err)
		}
		b.StopTimer()
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
			b.Fatal(err)
		}
		cpu += time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
}
