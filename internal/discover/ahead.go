package discover

import (
	"iter"
	"sync"
)

// aheadBatch is how many values cross from one goroutine to the other at once.
const aheadBatch = 64

// Ahead runs a sequence in a goroutine of its own, a few batches before the
// loop over what it returns. The goroutine has ended when the loop has.
func Ahead[A, B any](seq iter.Seq2[A, B]) iter.Seq2[A, B] {
	type pair struct {
		a A
		b B
	}
	return func(yield func(A, B) bool) {
		full, empty := make(chan []pair, 2), make(chan []pair, 4)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		wg.Go(func() {
			defer close(full)
			var batch []pair
			for a, b := range seq {
				if batch == nil {
					select {
					case batch = <-empty: // used again
					default:
						batch = make([]pair, 0, aheadBatch)
					}
				}
				if batch = append(batch, pair{a, b}); len(batch) < aheadBatch {
					continue
				}
				select {
				case full <- batch:
					batch = nil
				case <-stop:
					return
				}
			}
			if batch != nil {
				select {
				case full <- batch:
				case <-stop:
				}
			}
		})
		for batch := range full {
			for _, p := range batch {
				if !yield(p.a, p.b) {
					return
				}
			}
			clear(batch)
			empty <- batch[:0]
		}
	}
}
