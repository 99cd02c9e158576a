package budget

import (
	"math/rand/v2"
	"testing"
)

func TestTheHeaviestAreAskedUntilItIsEnough(t *testing.T) {
	b := New[string](100)
	b.Set("a", 40, 40, false)
	b.Set("b", 60, 60, false)
	if k, ok := b.Next(); ok {
		t.Fatalf("%s is asked within the limit", k)
	}
	b.Set("c", 50, 50, false)
	if k, ok := b.Next(); !ok || k != "b" {
		t.Fatalf("asked %q, %v", k, ok)
	}
	if k, ok := b.Next(); ok {
		t.Fatalf("%s is asked although b's 60 are enough", k)
	}
	b.Set("a", 70, 70, false)
	if k, ok := b.Next(); !ok || k != "a" {
		t.Fatalf("asked %q, %v", k, ok)
	}
	b.Set("b", 0, 0, true)
	b.Set("a", 1, 1, true)
	if k, ok := b.Next(); ok || b.total != 51 {
		t.Fatalf("asked %q with a total of %d", k, b.total)
	}
}

func TestWhoCannotGiveBackIsNotAskedInALoop(t *testing.T) {
	b := New[string](10)
	b.Set("a", 100, 100, false)
	if _, ok := b.Next(); !ok {
		t.Fatal("not asked")
	}
	b.Set("a", 110, 110, false) // a look that came before it was asked
	if !b.Asked("a") {
		t.Fatal("forgot that it was asked")
	}
	b.Set("a", 90, 90, true)
	if _, ok := b.Next(); ok || b.Asked("a") {
		t.Fatal("asked again at once")
	}
	b.Set("a", 95, 95, false)
	if _, ok := b.Next(); !ok {
		t.Fatal("never asked again")
	}
}

func TestWithoutALimitNobodyIsAsked(t *testing.T) {
	b := New[int](0)
	b.Set(1, 1<<60, 1, false)
	if _, ok := b.Next(); ok {
		t.Fatal("asked")
	}
}

// TestRandomSizes compares with the plainest account there is.
func TestRandomSizes(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	const limit = 5000
	b := New[int](limit)
	type holder struct {
		size, weight int64
		asked, tried bool
	}
	model := map[int]*holder{}
	named := 0
	for step := range 50_000 {
		k := rng.IntN(100)
		switch rng.IntN(10) {
		case 0:
			b.Remove(k)
			delete(model, k)
		case 1, 2, 3:
			k, ok := b.Next()
			var want *holder
			free := int64(0)
			for _, h := range model {
				if !h.asked {
					free += h.size
				}
				if !h.asked && !h.tried && (want == nil || h.weight > want.weight) {
					want = h
				}
			}
			if ok != (want != nil && free > limit) {
				t.Fatalf("step %d: asked %v with %d to ask of %d", step, ok, free, limit)
			}
			if ok {
				named++
				if h := model[k]; h == nil || h.asked || h.tried || h.weight != want.weight {
					t.Fatalf("step %d: asked %+v, want %+v", step, h, want)
				}
				model[k].asked = true
			}
		default:
			size, answer := rng.Int64N(200)-10, rng.IntN(2) == 0
			b.Set(k, size, size*3, answer)
			h := model[k]
			switch {
			case size <= 0:
				delete(model, k)
			case h == nil:
				model[k] = &holder{size: size, weight: size * 3}
			default:
				if h.tried {
					h.tried = false
				} else if h.asked && answer {
					h.asked, h.tried = false, size > h.size/2
				}
				h.size, h.weight = size, size*3
			}
		}
		total := int64(0)
		for k, h := range model {
			total += h.size
			if b.Asked(k) != h.asked {
				t.Fatalf("step %d: %d asked: %v", step, k, b.Asked(k))
			}
		}
		if b.total != total {
			t.Fatalf("step %d: total %d, want %d", step, b.total, total)
		}
	}
	if named < 100 {
		t.Errorf("only %d were asked", named)
	}
}
