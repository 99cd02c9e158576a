package fleet

import (
	"errors"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/replicate"
)

// TestAnOrderIsWithdrawnOrBegunAndNeverBoth: who withdraws it opens the local file, and
// who has begun puts another in its place.
func TestAnOrderIsWithdrawnOrBegunAndNeverBoth(t *testing.T) {
	r := newRig(t, nil)
	withdrawn, begun := NewOrder(replicate.OrderCheck), NewOrder(replicate.OrderCheck)
	if !r.Withdraw(withdrawn) {
		t.Error("an order of which nothing was begun could not be withdrawn")
	}
	if r.MayReplace(&Run{order: withdrawn}) {
		t.Error("the file that is about to be opened may be replaced")
	}
	if !r.MayReplace(&Run{order: begun}) {
		t.Error("a file that nobody has touched may not be replaced")
	}
	if r.Withdraw(begun) {
		t.Error("an order was withdrawn while the file is replaced")
	}
}

// TestOneOrderAtATimeIsGiven and each is answered, whatever becomes of the database.
func TestOneOrderAtATimeIsGiven(t *testing.T) {
	r := newRig(t, nil)
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	first, second := NewOrder(replicate.OrderCut), NewOrder(replicate.OrderCut)
	if before, err := r.Give(e, first); before != nil || err != nil {
		t.Fatalf("%v, %v", before, err)
	}
	if before, err := r.Give(e, second); before != first || err != nil {
		t.Errorf("given beside another: %v, %v", before, err)
	}
	r.run(t, e, replicate.Report{Drained: true})
	<-first.Done()
	if _, err := first.Result(); err != nil {
		t.Errorf("carried out: %v", err)
	}
	if before, err := r.Give(e, second); before != nil || err != nil {
		t.Errorf("after the first: %v, %v", before, err)
	}
	if !r.Remove(e, r.NextScan(), false) {
		t.Fatal("not removed")
	}
	<-second.Done()
	if _, err := second.Result(); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("of a database that went: %v", err)
	}
	if _, err := r.Give(e, NewOrder(replicate.OrderCut)); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("given to a database that went: %v", err)
	}
}
