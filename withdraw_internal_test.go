package multidb

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAnOrderIsWithdrawnOrBegunAndNeverBoth: who withdraws it opens the local file, and
// who has begun puts another in its place.
func TestAnOrderIsWithdrawnOrBegunAndNeverBoth(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := started(t, WithDiscoverer(Glob(filepath.Join(root, "{{database}}.db"))), WithWatch(false), WithScanInterval(time.Hour))
	e, err := m.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer m.letGo(e)
	before, err := m.statFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	withdrawn, begun := &order{kind: orderCheck}, &order{kind: orderCheck}
	if !m.withdraw(withdrawn) {
		t.Error("an order of which nothing was begun could not be withdrawn")
	}
	if m.mayReplace(&runState{e: e, before: before, order: withdrawn}) {
		t.Error("the file that is about to be opened may be replaced")
	}
	if !m.mayReplace(&runState{e: e, before: before, order: begun}) {
		t.Error("a file that nobody has touched may not be replaced")
	}
	if m.withdraw(begun) {
		t.Error("an order was withdrawn while the file is replaced")
	}
	if err := os.WriteFile(path, []byte("written since"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m.mayReplace(&runState{e: e, before: before, order: &order{kind: orderCheck}}) {
		t.Error("a file that was written since may be replaced without an operator's word")
	}
	if !m.mayReplace(&runState{e: e, before: before, order: &order{kind: orderAdopt}}) {
		t.Error("an operator's word does not count")
	}
}

// TestWhatIsKeptOfAbsentDatabasesIsBoundedInNumberAndAge: and zero is no age.
func TestWhatIsKeptOfAbsentDatabasesIsBoundedInNumberAndAge(t *testing.T) {
	const window = time.Minute
	id := func(i int) ID { return ID(fmt.Sprint(i)) }
	var a absentees
	a.expire(time.Hour, window)
	a.put("never", absent{txid: 1}, time.Hour, window)
	a.put("old", absent{txid: 1, placed: time.Hour - window - 1}, time.Hour, window)
	if n := a.len(); n != 0 {
		t.Errorf("%d that are of no use are kept", n)
	}
	for i := range maxAbsent + 10 {
		a.put(id(i), absent{txid: TXID(i + 1), placed: time.Hour + time.Duration(i)}, time.Hour+time.Duration(i), window)
	}
	if _, ok := a.get(id(9)); ok || a.len() != maxAbsent {
		t.Errorf("%d are kept, want %d; the oldest: %v", a.len(), maxAbsent, ok)
	}
	if x, ok := a.get(id(10)); !ok || x.txid != 11 {
		t.Errorf("the oldest that there is place for: %v, %v", x, ok)
	}
	a.put(id(11), absent{txid: 99}, time.Hour+window, window)
	if _, ok := a.get(id(11)); ok {
		t.Error("what was known of one that went again without a place is still there")
	}
	a.expire(time.Hour+12+window, window)
	if _, ok := a.get(id(12)); !ok || a.len() != maxAbsent-2 {
		t.Errorf("%d are left of %d when one is too old", a.len(), maxAbsent-1)
	}
	a.expire(2*time.Hour, window)
	if n := a.len(); n != 0 {
		t.Errorf("%d are left when all are too old", n)
	}
}
