package multidb

import (
	"testing"

	"github.com/multidb-go/multidb/internal/replicate"
)

// TestAnOrderIsWithdrawnOrBegunAndNeverBoth: who withdraws it opens the local file, and
// who has begun puts another in its place.
func TestAnOrderIsWithdrawnOrBegunAndNeverBoth(t *testing.T) {
	m, e := held(t)
	withdrawn, begun := &order{kind: replicate.OrderCheck}, &order{kind: replicate.OrderCheck}
	if !m.withdraw(withdrawn) {
		t.Error("an order of which nothing was begun could not be withdrawn")
	}
	if (&job{m: m, e: e, order: withdrawn}).MayReplace() {
		t.Error("the file that is about to be opened may be replaced")
	}
	if !(&job{m: m, e: e, order: begun}).MayReplace() {
		t.Error("a file that nobody has touched may not be replaced")
	}
	if m.withdraw(begun) {
		t.Error("an order was withdrawn while the file is replaced")
	}
}
