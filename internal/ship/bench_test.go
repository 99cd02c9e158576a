package ship

import (
	"testing"
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
