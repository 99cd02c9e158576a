package discover

import (
	"testing"
	"testing/synctest"
)

func countTo(n int, ended *bool) func(func(int, error) bool) {
	return func(yield func(int, error) bool) {
		defer func() { *ended = true }()
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

func TestAheadYieldsTheSame(t *testing.T) {
	for _, n := range []int{0, 1, aheadBatch - 1, aheadBatch, aheadBatch + 1, 20*aheadBatch + 3} {
		want, ended := 0, false
		for i, err := range Ahead(countTo(n, &ended)) {
			if i != want || err != nil {
				t.Fatalf("of %d: %d after %d, %v", n, i, want-1, err)
			}
			want++
		}
		if want != n || !ended {
			t.Errorf("%d of %d, ended %v", want, n, ended)
		}
	}
}

// A loop that is left ends the goroutine before it goes on; the bubble would
// not end with it.
func TestALoopOverAheadThatIsLeftEndsIt(t *testing.T) {
	for _, n := range []int{1, aheadBatch, 5 * aheadBatch, 20 * aheadBatch} {
		for _, leave := range []int{0, aheadBatch - 1, aheadBatch, 3 * aheadBatch} {
			synctest.Test(t, func(t *testing.T) {
				ended := false
				for i := range Ahead(countTo(n, &ended)) {
					if i == leave {
						break
					}
				}
				if !ended {
					t.Errorf("left at %d of %d, it goes on", leave, n)
				}
			})
		}
	}
}
