package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// TestTheTurnIsThatOfAPlainSort drives the order at random beside a sorted list.
func TestTheTurnIsThatOfAPlainSort(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	o := newOrder()
	type known struct {
		n *node
		p proof
		// until is set of one that is set aside.
		until time.Time
	}
	all := map[string]*known{}
	now := time.UnixMilli(1_000_000)
	for step := range 20_000 {
		now = now.Add(time.Duration(rnd.IntN(1000)) * time.Millisecond)
		ms := now.UnixMilli()
		id := fmt.Sprint("t", rnd.IntN(60))
		switch k := all[id]; rnd.IntN(6) {
		case 0:
			if k == nil {
				all[id] = &known{n: o.add(id, ms), p: proof{since: ms}}
			}
		case 1:
			if k != nil {
				o.remove(k.n)
				delete(all, id)
			}
		default:
			o.back(now)
			failing, retry, again := rnd.IntN(2) == 0, ms-20_000, ms-10_000
			rank := func(k *known) int {
				switch {
				case k.p.err != "" && k.p.tried > retry, k.p.err == "" && k.p.proved > again, k.until.After(now):
					return math.MaxInt
				case k.p.err != "" && failing:
					return 0
				case k.p.tried == 0:
					return 1
				case k.p.err == "":
					return 2
				}
				return 3
			}
			var want *known
			before := func(a, b *known) bool {
				c := cmp.Compare(rank(a), rank(b))
				if c == 0 && rank(a) != 1 {
					c = cmp.Compare(a.p.tried, b.p.tried)
				}
				return cmp.Or(c, strings.Compare(a.n.id, b.n.id)) < 0
			}
			for _, k := range all {
				if rank(k) != math.MaxInt && (want == nil || before(k, want)) {
					want = k
				}
			}
			got := o.next(failing, retry, again)
			if want == nil || got == nil {
				if want != nil || got != nil {
					t.Fatalf("step %d: it is the turn of %v, want %v", step, got, want)
				}
				continue
			}
			if got != want.n {
				t.Fatalf("step %d: it is the turn of %s, want %s", step, got.id, want.n.id)
			}
			want.until = time.Time{}
			switch rnd.IntN(4) {
			case 0:
				want.until = now.Add(5 * time.Second)
				o.setAside(got, want.until)
			case 1:
				want.p = proof{proved: want.p.proved, tried: ms, err: "damaged"}
				o.set(got, want.p)
			default:
				want.p = proof{proved: ms, tried: ms}
				o.set(got, want.p)
			}
		}
		unproved, oldest := 0, int64(0)
		var late []string
		since := ms - 30_000
		for id, k := range all {
			if k.p.proved == 0 {
				unproved++
			}
			if k.p.tried != 0 && (oldest == 0 || k.p.tried < oldest) {
				oldest = k.p.tried
			}
			if k.p.err != "" || max(k.p.proved, k.p.since) < since {
				late = append(late, id)
			}
			if got := o.proof(k.n); got != k.p {
				t.Fatalf("step %d: %s has %+v, want %+v", step, id, got, k.p)
			}
		}
		if o.unproved != unproved || o.oldest(nil) != oldest {
			t.Fatalf("step %d: %d are unproved and the oldest is of %d, want %d and %d", step, o.unproved, o.oldest(nil), unproved, oldest)
		}
		var got []string
		o.late(since, nil, func(n *node) { got = append(got, n.id) })
		slices.Sort(got)
		slices.Sort(late)
		if !slices.Equal(got, late) {
			t.Fatalf("step %d: %v are late, want %v", step, got, late)
		}
	}
}

func TestANodeIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(node{}); n > 32 {
		t.Errorf("a node has %d bytes, more than its size class of 32", n)
	}
}

func TestANoteComesBackAsItWas(t *testing.T) {
	for _, p := range []proof{{}, {since: 5}, {proved: 7, tried: 7, txid: 9}, {proved: 7, tried: 8, txid: math.MaxUint64, err: "damaged"}, {tried: 1 << 50, err: "x"}} {
		if got, ok := decode(p.encode()); !ok || got != p {
			t.Errorf("%+v came back as %+v, %v", p, got, ok)
		}
	}
	for _, b := range [][]byte{nil, {0}, {2, 0, 0, 0, 0}, {1}, {1, 0x80}, {1, 2, 0, 0, 0}} {
		if p, ok := decode(b); ok {
			t.Errorf("%v is %+v", b, p)
		}
	}
	if s := text(errors.New("a\nb\tc" + strings.Repeat("é", 1000))); len(s) > mostText+2 || !strings.HasPrefix(s, "a b cé") {
		t.Errorf("the text is %q", s)
	}
}

func quiet(cfg Config) Config {
	cfg.Now, cfg.Rand, cfg.Logger = time.Now, func() float64 { return 0.5 }, slog.New(slog.DiscardHandler)
	cfg.Put = func(string, []byte) {}
	cfg.Damage = func(error) bool { return false }
	if cfg.Free == nil {
		cfg.Free = func(string) (int64, error) { return math.MaxInt64, nil }
	}
	return cfg
}

// TestADrillIsNotBegunWhereTheDiskLacksTheSize: one that is too large is passed over for an
// hour, and keeps no other from its turn.
func TestADrillIsNotBegunWhereTheDiskLacksTheSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		d := New(quiet(Config{PerDay: 96,
			Tenant: func(id string) (Tenant, bool) {
				return Tenant{Size: map[string]int64{"large": 1 << 30, "small": 1 << 20}[id]}, true
			},
			Free: func(string) (int64, error) { return 500 << 20, nil },
			Client: func(id string) (litestream.ReplicaClient, error) {
				asked = append(asked, id)
				return nil, errors.New("no answer")
			},
			Told: func(id string, _ ltx.TXID, err error) { t.Errorf("it told of %s: %v", id, err) },
		}))
		d.Add("large")
		d.Add("small")
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx, t.TempDir())
		<-time.After(50 * time.Minute)
		synctest.Wait()
		if !slices.Equal(asked, []string{"small"}) || d.Counts().Postponed != 2 {
			t.Errorf("%q were begun, %+v", asked, d.Counts())
		}
		cancel()
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestALongDrillIsNotMadeUpFor: the drills that would have begun meanwhile are left out, so
// that there are never two at once, nor many in a row.
func TestALongDrillIsNotMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Duration
		began := time.Now()
		d := New(quiet(Config{PerDay: 24,
			Tenant: func(string) (Tenant, bool) { return Tenant{}, true },
			Client: func(string) (litestream.ReplicaClient, error) {
				begun = append(begun, time.Since(began))
				if len(begun) == 1 {
					<-time.After(5 * time.Hour)
				}
				return nil, errors.New("no answer")
			},
			Told: func(string, ltx.TXID, error) {},
		}))
		for i := range 100 {
			d.Add(fmt.Sprint(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx, t.TempDir())
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if len(begun) < 15 || len(begun) > 20 {
			t.Errorf("%d were begun in a day of which the first took 5 hours", len(begun))
		}
		for i := 1; i < len(begun); i++ {
			if gap := begun[i] - begun[i-1]; gap < time.Hour-time.Second && i > 1 {
				t.Errorf("drill %d began %v after the one before", i, gap)
			}
		}
		cancel()
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// hanging is a client that does not answer.
type hanging struct{ litestream.ReplicaClient }

func (hanging) LTXFiles(ctx context.Context, _ int, _ ltx.TXID, _ bool) (ltx.FileIterator, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hanging) SetLogger(*slog.Logger) {}

func (hanging) Type() string { return "hanging" }

// TestAStoreThatNeverAnswersDoesNotEndAllDrills: the drill is given up, and the next one has
// its turn.
func TestAStoreThatNeverAnswersDoesNotEndAllDrills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		d := New(quiet(Config{PerDay: 24,
			Tenant: func(string) (Tenant, bool) { return Tenant{Size: 600 << 20}, true },
			Client: func(string) (litestream.ReplicaClient, error) {
				asked++
				return hanging{}, nil
			},
			Told: func(id string, _ ltx.TXID, err error) { t.Errorf("it told of %s: %v", id, err) },
		}))
		d.Add("a")
		d.Add("b")
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx, t.TempDir())
		<-time.After(30*time.Minute + patience + 9*time.Minute)
		synctest.Wait()
		if d.Counts().Postponed != 0 {
			t.Error("a file of 600 MiB has an hour alone")
		}
		<-time.After(22*time.Hour - patience)
		synctest.Wait()
		if n := d.Counts().Postponed; n < 15 || asked > 20 {
			t.Errorf("%d were given up, of %d", n, asked)
		}
		cancel()
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestADatabaseThatIsForgottenWhileItIsDrilledIsNotTold: its drill ends, and leaves no note.
func TestADatabaseThatIsForgottenWhileItIsDrilledIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := map[string][]byte{}
		var d *Drills
		cfg := quiet(Config{PerDay: 24,
			Tenant: func(string) (Tenant, bool) { return Tenant{}, true },
			Client: func(id string) (litestream.ReplicaClient, error) {
				d.Forget(id)
				return nil, unprovedError{errors.New("damaged")}
			},
			Told: func(id string, _ ltx.TXID, err error) { t.Errorf("it told of %s: %v", id, err) },
		})
		cfg.Put = func(id string, note []byte) { notes[id] = note }
		d = New(cfg)
		d.Add("gone")
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx, t.TempDir())
		<-time.After(time.Hour)
		synctest.Wait()
		if c := d.Counts(); c != (Counts{}) || notes["gone"] != nil {
			t.Errorf("%+v, %q", c, notes)
		}
		cancel()
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkAMillionDatabases is what drills keep of each, and what the next turn costs.
func BenchmarkAMillionDatabases(b *testing.B) {
	const n = 1_000_000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("project%d/db%d", i%1000, i)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	o := newOrder()
	for _, id := range ids {
		o.add(id, 1)
	}
	kept := float64(heap()-before) / n
	at := int64(1)
	for b.Loop() {
		at++
		o.set(o.next(false, 0, math.MaxInt64), proof{proved: at, tried: at})
	}
	b.ReportMetric(kept, "bytes/database")
	runtime.KeepAlive(ids)
}
