package replicate

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// tailed is a client that has a tail.
type tailed struct {
	Deferred
	files    int
	size     int64
	pressed  bool
	unpacked int
	prefix   countingLister
}

func (c *tailed) Tail() (int, int64) { return c.files, c.size }
func (c *tailed) Pressed() bool      { return c.pressed }

func (c *tailed) Prefix() litestream.ReplicaClient { return &c.prefix }

func (c *tailed) Unpack(context.Context, bool) ([]*ltx.FileInfo, error) {
	c.unpacked++
	info := &ltx.FileInfo{MinTXID: ltx.TXID(c.unpacked), MaxTXID: ltx.TXID(c.unpacked), Size: c.size}
	c.files = 0
	return []*ltx.FileInfo{info}, nil
}

const unpackInterval = 5 * time.Minute

// hotOne has one database run, at times after the first run.
type hotOne struct {
	*tailed
	x     *run
	began time.Time
}

func newHotOne(id string) *hotOne {
	c := &tailed{files: 1, size: 100}
	st := &State{active: &active{deferred: c, named: true}}
	x := &run{Replicator: New(Config{UnpackInterval: unpackInterval, UnpackSize: 8 << 20, Now: time.Now}), st: st}
	x.in.ID = id
	return &hotOne{c, x, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// at runs it, with more in the tail, and reports whether it has unpacked.
func (u *hotOne) at(t *testing.T, after time.Duration) bool {
	t.Helper()
	before := u.unpacked
	u.files++
	u.x.r.Started = u.began.Add(after)
	if err := u.x.unpack(t.Context()); err != nil {
		t.Fatal(err)
	}
	return u.unpacked > before
}

// TestDatabasesThatBecameActiveTogetherAreNotUnpackedTogether: the first interval of each is
// another part of a whole one, and the next ones are whole.
func TestDatabasesThatBecameActiveTogetherAreNotUnpackedTogether(t *testing.T) {
	const n = 2000
	var first []time.Duration
	for i := range n {
		u := newHotOne(fmt.Sprintf("tenant-%05d", i))
		var at []time.Duration
		for s := time.Duration(0); s <= 3*unpackInterval; s += time.Second {
			if u.at(t, s) {
				at = append(at, s)
			}
		}
		if len(at) != 3 || at[0] > unpackInterval || at[1]-at[0] != unpackInterval || at[2]-at[1] != unpackInterval {
			t.Fatalf("tenant %d is unpacked after %v", i, at)
		}
		first = append(first, at[0])
	}
	slices.Sort(first)
	for part := range 10 {
		from := unpackInterval * time.Duration(part) / 10
		a, _ := slices.BinarySearch(first, from+1)
		b, _ := slices.BinarySearch(first, from+unpackInterval/10+1)
		if b-a < n/10/2 || b-a > n/10*2 {
			t.Errorf("%d of %d are unpacked in part %d of the interval", b-a, n, part)
		}
	}
}

// TestADatabaseIsUnpackedSoonerWhereItsTailIsLargeOrMemoryIsShort.
func TestADatabaseIsUnpackedSoonerWhereItsTailIsLargeOrMemoryIsShort(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tailed)
		want   bool
	}{
		"neither":         {func(*tailed) {}, false},
		"large":           {func(c *tailed) { c.size = 8 << 20 }, true},
		"memory is short": {func(c *tailed) { c.pressed = true }, true},
	} {
		u := newHotOne("a")
		u.x.st.active.phased = true
		if u.at(t, 0) {
			t.Errorf("%s: it was unpacked at once", name)
		}
		c.change(u.tailed)
		if got := u.at(t, time.Second); got != c.want {
			t.Errorf("%s: unpacked %v", name, got)
		}
	}
}

// TestWhatAnotherUnpackerHasWrittenMeanwhileIsKnownWithTheNextFile: a compaction that knows nothing of it would leave
// a gap in the levels above.
func TestWhatAnotherUnpackerHasWrittenMeanwhileIsKnownWithTheNextFile(t *testing.T) {
	u := newHotOne("a")
	u.size = 8 << 20 // each time
	u.at(t, 0)
	if u.at(t, time.Second); u.prefix.asked != 0 {
		t.Errorf("the prefix was listed %d times though nobody else has written to it", u.prefix.asked)
	}
	u.unpacked++ // the third is another's
	for i := range 4 {
		u.prefix.has = append(u.prefix.has, &ltx.FileInfo{MinTXID: ltx.TXID(i + 1), MaxTXID: ltx.TXID(i + 1), Size: 1})
	}
	u.at(t, 2*time.Second)
	if n := u.x.st.active.inv.Len(); n != 4 || u.prefix.asked != 1 {
		t.Errorf("it knows of %d files, want 4; the prefix was listed %d times", n, u.prefix.asked)
	}
}
