package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/schedule"
)

var def = Policy{
	Pace: schedule.Pace{SyncInterval: time.Second, ColdSyncInterval: 30 * time.Second, HotDuration: 5 * time.Minute},
	Levels: levels.Policy{Grace: 5 * time.Minute, L0Retention: 5 * time.Minute, Granularity: 5 * time.Minute,
		Retention: 24 * time.Hour, SnapshotInterval: 24 * time.Hour},
}

func TestWhatIsNotSaidIsAsTheOthersHaveIt(t *testing.T) {
	if got, err := def.With(Own{}); got != def || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := def.With(Own{SyncInterval: time.Minute, L0Retention: time.Hour, Heat: schedule.Never, EvictPriority: -3})
	want := def
	want.Pace.SyncInterval, want.Pace.ColdSyncInterval, want.Pace.Heat = time.Minute, time.Minute, schedule.Never
	want.Levels.L0Retention, want.Levels.Granularity, want.EvictPriority = time.Hour, time.Hour, -3
	if got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got.Longest() != 24*time.Hour {
		t.Errorf("%v", got.Longest())
	}
}

func TestEachFieldThatCannotBeIsNamed(t *testing.T) {
	for field, own := range map[string]Own{
		"SyncInterval":     {SyncInterval: -1},
		"ColdSyncInterval": {ColdSyncInterval: -1},
		"HotDuration":      {HotDuration: -1},
		"SnapshotInterval": {SnapshotInterval: -1},
		"Retention":        {Retention: -1},
		"L0Retention":      {L0Retention: -1},
		"Hot is 3":         {Heat: 3},
		"shorter than":     {SyncInterval: time.Minute, ColdSyncInterval: time.Second},
	} {
		if _, err := def.With(own); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// of is the n-th policy.
func of(n int) Policy {
	p := def
	p.EvictPriority = n
	return p
}

func TestEqualPoliciesHaveOneNumberUntilTheLastUserIsGone(t *testing.T) {
	tb := NewTable(def)
	a, fresh, err := tb.Change(0, of(1))
	if a == 0 || !fresh || err != nil || tb.Of(a) != of(1) {
		t.Fatalf("%d, %v, %v", a, fresh, err)
	}
	if b, fresh, err := tb.Change(0, of(1)); b != a || fresh || err != nil {
		t.Errorf("%d, %v, %v", b, fresh, err)
	}
	if n, fresh, err := tb.Change(a, def); n != 0 || fresh || err != nil || tb.Len() != 2 {
		t.Errorf("%d, %v, %v, %d policies", n, fresh, err, tb.Len())
	}
	tb.Drop(a)
	if tb.Len() != 1 {
		t.Errorf("%d policies", tb.Len())
	}
	if b, fresh, _ := tb.Change(0, of(2)); b != a || !fresh || tb.Of(b) != of(2) {
		t.Errorf("%d, %v: %+v", b, fresh, tb.Of(b))
	}
}

func TestATableThatIsFullTakesOnlyWhatReplacesAPolicy(t *testing.T) {
	tb := NewTable(def)
	last := uint16(0)
	for i := 1; i < MaxDistinct; i++ {
		var err error
		if last, _, err = tb.Change(0, of(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := tb.Change(0, of(MaxDistinct)); n != 0 || !errors.Is(err, ErrFull) {
		t.Errorf("%d, %v", n, err)
	}
	if _, fresh, err := tb.Change(0, of(7)); fresh || err != nil {
		t.Errorf("%v, %v", fresh, err)
	}
	for i := range 10 { // the only user of one may change it as often as it likes
		n, fresh, err := tb.Change(last, of(MaxDistinct+i))
		if n == last || !fresh || err != nil || tb.Len() != MaxDistinct {
			t.Fatalf("%d, %v, %v, %d policies", n, fresh, err, tb.Len())
		}
		last = n
	}
	tb.Drop(last)
	if _, _, err := tb.Change(0, of(MaxDistinct)); err != nil {
		t.Error(err)
	}
}
