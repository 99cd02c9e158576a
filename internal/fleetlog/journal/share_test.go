package journal

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// watched calls before each Create.
type watched struct {
	*bucket
	before func(name string)
}

func (w *watched) Create(ctx context.Context, name string, data []byte) error {
	if w.before != nil {
		w.before(name)
	}
	return w.bucket.Create(ctx, name, data)
}

// TestWhoTakesOverReadsAlsoWhatTheOtherTookOverMeanwhile: the owner of a log is only slow, and takes
// another log over between the look at the map and the seal of its own.
func TestWhoTakesOverReadsAlsoWhatTheOtherTookOverMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		share := func(c *Config) { c.Share = true }
		dead, slow := life(b, 1, share), life(b, 2, share)
		w := &watched{bucket: b}
		heir := life(b, 3, func(c *Config) { c.Share, c.Store = true, w })
		epochs := map[*Journal]uint64{}
		for _, j := range []*Journal{dead, slow, heir} {
			epoch, err := j.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			epochs[j] = epoch
		}
		if err := dead.Claim(t.Context(), allShards); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		if err := dead.Append(t.Context(), file("tenant", 1, 10), func(_ Place, err error) { done <- err }); err != nil {
			t.Fatal(err)
		} else if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.before = func(name string) {
			if strings.HasPrefix(name, format.LogDir(epochs[slow])) {
				w.before = nil
				if taken, err := slow.TakeOver(t.Context(), epochs[dead]); err != nil || !has(taken, "tenant") {
					t.Errorf("the slow one takes over %+v: %v", taken, err)
				}
			}
		}
		taken, err := heir.TakeOver(t.Context(), epochs[slow])
		if err != nil {
			t.Fatal(err)
		}
		if owner := heir.Map().Owners[format.Shard("tenant")]; owner != epochs[heir] || w.before != nil {
			t.Errorf("epoch %d owns the shard, want %d", owner, epochs[heir])
		}
		if !has(taken, "tenant") {
			t.Error("it does not know of the file that the first has written")
		}
		for _, j := range []*Journal{dead, slow, heir} {
			j.Stop()
		}
	})
}

// tardy lists a map that another has just created only when it was asked for the third time.
type tardy struct {
	watched
	asked int
}

func (s *tardy) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	if prefix != format.MapName(2) {
		return s.bucket.List(ctx, prefix, after)
	}
	if s.asked++; s.asked == 3 {
		return s.bucket.List(ctx, prefix, after)
	}
	return func(yield func(store.ObjectInfo, error) bool) {
		for o, err := range s.bucket.List(ctx, prefix, after) {
			o.Size = 0 // it is there, and nobody knows yet how long it is
			if s.asked == 1 && !yield(o, err) {
				return
			}
		}
	}
}

func TestAMapThatIsCreatedByAnotherAndIsNotListedYetIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		s := &tardy{watched: watched{bucket: b}}
		first := life(b, 1, func(c *Config) { c.Share = true })
		second := life(b, 2, func(c *Config) { c.Share, c.Store = true, s })
		third := life(b, 3, func(c *Config) { c.Share = true })
		if _, err := first.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.before = func(name string) {
			if name == format.MapName(2) {
				s.before = nil
				if _, err := third.Begin(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		if epoch, err := second.Begin(t.Context()); err != nil || epoch != 3 {
			t.Errorf("epoch %d, %v", epoch, err)
		}
		if s.asked != 3 {
			t.Errorf("it was asked %d times", s.asked)
		}
		for _, j := range []*Journal{first, second, third} {
			if err := j.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// has reports whether a record of a prefix was taken over, whose shard came with it.
func has(taken Taken, prefix string) bool {
	return taken.Has(prefix) && recorded(taken, prefix)
}

func recorded(taken Taken, prefix string) bool {
	return slices.ContainsFunc(slices.Concat(taken.Logs, taken.Known), func(l *format.Log) bool {
		_, ok := l.Find(prefix)
		return ok
	})
}

// nodes are Journals beside each other.
type nodes struct {
	t      *testing.T
	b      *bucket
	epochs map[*Journal]uint64
}

func (n *nodes) join(id byte, ended ...format.ID) *Journal {
	n.t.Helper()
	j := life(n.b, id, func(c *Config) { c.Share, c.Ended = true, ended })
	epoch, err := j.Begin(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	n.epochs[j] = epoch
	return j
}

func (n *nodes) put(j *Journal, prefix string) {
	n.t.Helper()
	done := make(chan error, 1)
	if err := j.Append(n.t.Context(), file(prefix, 1, 10), func(_ Place, err error) { done <- err }); err != nil {
		n.t.Fatal(err)
	} else if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

func (n *nodes) erase(j *Journal, prefix string) {
	n.t.Helper()
	done := make(chan error, 1)
	if err := j.Forget(n.t.Context(), prefix, func(_ Place, err error) { done <- err }); err != nil {
		n.t.Fatal(err)
	} else if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// move gives the shard of a prefix away, all of which is in the prefix.
func (n *nodes) move(from, to *Journal, prefix string) {
	n.t.Helper()
	s := []int{format.Shard(prefix)}
	if err := from.Release(n.t.Context(), s); err != nil {
		n.t.Fatal(err)
	}
	if err := from.Give(n.t.Context(), s, n.epochs[to]); err != nil {
		n.t.Fatal(err)
	}
	if m, err := to.Refresh(n.t.Context()); err != nil || m.Owners[s[0]] != n.epochs[to] {
		n.t.Fatalf("the shard was not given: %v", err)
	}
}

func (n *nodes) takeOver(heir, from *Journal) Taken {
	n.t.Helper()
	taken, err := heir.TakeOver(n.t.Context(), n.epochs[from])
	if err != nil {
		n.t.Fatal(err)
	}
	return taken
}

func beside(t *testing.T, fn func(n *nodes)) {
	synctest.Test(t, func(t *testing.T) {
		n := &nodes{t, newBucket(1), map[*Journal]uint64{}}
		fn(n)
		for j := range n.epochs {
			j.Stop()
		}
	})
}

// deaf loses the answer to the next Create of a map.
type deaf struct {
	*bucket
	loses bool
}

var errUnheard = errors.New("no answer")

func (d *deaf) Create(ctx context.Context, name string, data []byte) error {
	err := d.bucket.Create(ctx, name, data)
	if _, isMap := format.ParseMapName(name); isMap && d.loses {
		d.loses = false
		return errUnheard
	}
	return err
}

// TestAShardThatCameBackIsNotGivenAwayByAGiveFromBefore of which the answer was lost: it is released no more.
func TestAShardThatCameBackIsNotGivenAwayByAGiveFromBefore(t *testing.T) {
	beside(t, func(n *nodes) {
		d := &deaf{bucket: n.b}
		a := life(n.b, 1, func(c *Config) { c.Share, c.Store = true, d })
		epoch, err := a.Begin(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		n.epochs[a] = epoch
		b := n.join(2)
		if err := a.Claim(n.t.Context(), allShards); err != nil {
			n.t.Fatal(err)
		}
		shard := []int{format.Shard("tenant")}
		if err := a.Release(n.t.Context(), shard); err != nil {
			n.t.Fatal(err)
		}
		d.loses = true
		if err := a.Give(n.t.Context(), shard, n.epochs[b]); !errors.Is(err, errUnheard) {
			n.t.Fatal(err)
		}
		if _, err := b.Refresh(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
		n.move(b, a, "tenant")
		if err := a.Give(n.t.Context(), shard, n.epochs[b]); err != nil {
			n.t.Fatal(err)
		}
		if m, err := b.Refresh(n.t.Context()); err != nil || m.Owners[shard[0]] != epoch {
			n.t.Errorf("it belongs to epoch %d, %v", m.Owners[shard[0]], err)
		}
		n.move(a, b, "tenant") // another Give is one of its own
	})
}

// TestWhatALogHasOfAShardThatItsOwnerGaveAwayIsNotTakenOver: it is in the prefixes, and who has the
// shard may have erased it since.
func TestWhatALogHasOfAShardThatItsOwnerGaveAwayIsNotTakenOver(t *testing.T) {
	beside(t, func(n *nodes) {
		a, b, c := n.join(1), n.join(2), n.join(3)
		if err := a.Claim(n.t.Context(), allShards); err != nil {
			n.t.Fatal(err)
		}
		n.put(a, "given")
		n.put(a, "back")
		n.put(a, "stays")
		n.move(a, b, "given")
		n.move(a, b, "back")
		n.erase(b, "back")
		n.move(b, a, "back")
		n.put(a, "stays")
		taken := n.takeOver(c, a)
		if recorded(taken, "given") || recorded(taken, "back") || !has(taken, "stays") {
			n.t.Errorf("taken over: %+v", taken)
		}
	})
}

// TestWhatANodeReadsOfTheShardsOfOthersIsNotItsOwn: it begins another life after it was killed while it unpacked what it had
// taken over, and knows of a log from before of which others have the shards by now.
func TestWhatANodeReadsOfTheShardsOfOthersIsNotItsOwn(t *testing.T) {
	beside(t, func(n *nodes) {
		a, b, c := n.join(1), n.join(2), n.join(3)
		if err := a.Claim(n.t.Context(), allShards); err != nil {
			n.t.Fatal(err)
		}
		n.put(a, "erased")
		n.put(a, "stays")
		n.takeOver(b, a)
		n.put(b, "new")
		n.move(b, c, "erased")
		n.erase(c, "erased")
		b.Stop()
		next := n.join(4, format.ID{2})
		taken, err := next.Join(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		if taken.Has("erased") || !has(taken, "stays") || !has(taken, "new") {
			n.t.Errorf("its next life has %+v", taken)
		}
	})
}

// TestWhatAnotherNodeErasedInBetweenDoesNotComeWithTheShard: it says so in its own log alone, which goes on.
func TestWhatAnotherNodeErasedInBetweenDoesNotComeWithTheShard(t *testing.T) {
	for name, restarts := range map[string]bool{"taken over": false, "its own next life": true} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(n *nodes) {
				a, b, c := n.join(1), n.join(2), n.join(3)
				if err := a.Claim(n.t.Context(), allShards); err != nil {
					n.t.Fatal(err)
				}
				n.put(a, "erased")
				n.put(a, "stays")
				n.takeOver(b, a)
				n.move(b, c, "erased")
				n.erase(c, "erased")
				n.move(c, b, "erased")
				var taken Taken
				if restarts {
					b.Stop()
					var err error
					if taken, err = n.join(4, format.ID{2}).Join(n.t.Context()); err != nil {
						n.t.Fatal(err)
					}
				} else {
					taken = n.takeOver(n.join(5), b)
				}
				if !taken.Has("erased") || recorded(taken, "erased") || !has(taken, "stays") {
					n.t.Errorf("taken over: %+v", taken)
				}
			})
		})
	}
}

// TestWhatWasReadBeforeItsShardCameIsTakenOverWithTheShard: who began while another node had it, and read the log of its
// owner before that one, knows of what it is to unpack when that other node ends too.
func TestWhatWasReadBeforeItsShardCameIsTakenOverWithTheShard(t *testing.T) {
	beside(t, func(n *nodes) {
		a, b, c := n.join(1), n.join(2), n.join(3)
		if err := a.Claim(n.t.Context(), allShards); err != nil {
			n.t.Fatal(err)
		}
		n.put(a, "tenant")
		n.takeOver(b, a)
		c.Stop()
		next := n.join(4, format.ID{3})
		taken, err := next.Join(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		if !recorded(taken, "tenant") || taken.Has("tenant") {
			n.t.Errorf("at the beginning it has %+v; this shows nothing", taken)
		}
		if taken = n.takeOver(next, b); !has(taken, "tenant") {
			n.t.Errorf("taken over: %+v", taken)
		}
	})
}
