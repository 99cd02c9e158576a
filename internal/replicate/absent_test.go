package replicate

import (
	"fmt"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// TestWhatIsKeptOfAbsentDatabasesIsBoundedInNumberAndAge: and zero is no age.
func TestWhatIsKeptOfAbsentDatabasesIsBoundedInNumberAndAge(t *testing.T) {
	const window = time.Minute
	id := func(i int) string { return fmt.Sprint(i) }
	a := NewAbsent(window)
	remains := func(txid int, placed time.Duration) Remains {
		return Remains{Position: ship.State{TXID: ltx.TXID(txid)}, EndSeen: placed}
	}
	a.Expire(time.Hour)
	a.Put("never", remains(1, 0), time.Hour)
	a.Put("old", remains(1, time.Hour-window-1), time.Hour)
	if n := a.Len(); n != 0 {
		t.Errorf("%d that are of no use are kept", n)
	}
	for i := range maxAbsent + 10 {
		a.Put(id(i), remains(i+1, time.Hour+time.Duration(i)), time.Hour+time.Duration(i))
	}
	if _, ok := a.Get(id(9), time.Hour); ok || a.Len() != maxAbsent {
		t.Errorf("%d are kept, want %d; the oldest: %v", a.Len(), maxAbsent, ok)
	}
	if x, ok := a.Get(id(10), time.Hour); !ok || x.Position.TXID != 11 {
		t.Errorf("the oldest that there is place for: %v, %v", x, ok)
	}
	a.Put(id(11), remains(99, 0), time.Hour+window)
	if _, ok := a.Get(id(11), time.Hour); ok {
		t.Error("what was known of one that went again without a place is still there")
	}
	a.Expire(time.Hour + 12 + window)
	if _, ok := a.Get(id(12), time.Hour); !ok || a.Len() != maxAbsent-2 {
		t.Errorf("%d are left of %d when one is too old", a.Len(), maxAbsent-1)
	}
	a.Expire(2 * time.Hour)
	if n := a.Len(); n != 0 {
		t.Errorf("%d are left when all are too old", n)
	}
}
