package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
)

// unconditional is a store that is found out to let an object be created twice, at once or
// later.
type unconditional struct {
	*bucket
	after int
}

func (u *unconditional) Create(ctx context.Context, name string, data []byte) error {
	if u.after--; u.after < 0 {
		return fmt.Errorf("put %s: %w", name, store.ErrNoConditionalWrites)
	}
	return u.bucket.Create(ctx, name, data)
}

func TestALogEndsThatItsStoreCanNeverKeep(t *testing.T) {
	for _, after := range []int{0, 2} { // the second: one object was written
		synctest.Test(t, func(t *testing.T) {
			u := &unconditional{newBucket(1), after}
			j := New(Config{Store: u, Life: format.ID{1}, Node: "node", Fenced: func(error) { t.Error("nobody has taken over") }})
			if after == 0 {
				if _, err := j.Join(t.Context()); !errors.Is(err, store.ErrNoConditionalWrites) {
					t.Errorf("joined: %v", err)
				}
			}
			var ends []error
			for txid := range uint64(2) {
				if err := j.Append(t.Context(), file("a", txid+1, 10), func(_ Place, err error) { ends = append(ends, err) }); err != nil && after > 0 {
					t.Error(err)
				} else if after == 0 && !errors.Is(err, store.ErrNoConditionalWrites) {
					t.Errorf("appended: %v", err)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
			}
			if after > 0 && (len(ends) != 2 || ends[0] != nil || !errors.Is(ends[1], store.ErrNoConditionalWrites)) {
				t.Errorf("ended with %v", ends)
			}
			if err := j.Append(t.Context(), file("b", 1, 10), nil); !errors.Is(err, store.ErrNoConditionalWrites) {
				t.Errorf("appended afterwards: %v", err)
			}
			if s := j.Stats(); s.Fenced || s.Queued != 0 {
				t.Errorf("%+v", s)
			}
			if err := j.Close(t.Context()); !errors.Is(err, store.ErrNoConditionalWrites) {
				t.Errorf("closed: %v", err)
			}
		})
	}
}

// TestLargeFilesGoWithTheObjectsThatNameThem, and not before.
func TestLargeFilesGoWithTheObjectsThatNameThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		j := life(b, 1, func(c *Config) { c.Retention = time.Minute })
		var places []Place
		larges := func() (n int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for name := range b.objects {
				if strings.HasPrefix(name, format.LargeDir) {
					n++
				}
			}
			return n
		}
		for txid := range uint64(400) {
			f := file("a", txid+1, 10)
			if txid%100 == 0 {
				var err error
				if f.Large, err = j.Large(t.Context(), bytes.NewReader(f.Data), 10); err != nil {
					t.Fatal(err)
				}
				f.Size, f.CRC, f.Data = 10, format.Checksum(f.Data), nil
			}
			if err := j.Append(t.Context(), f, func(at Place, err error) {
				if err != nil {
					t.Error(err)
				}
				places = append(places, at)
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			for len(places) > 0 && txid < 250 {
				j.Unpacked(places[0].Epoch, places[0].Seq)
				places = places[1:]
			}
		}
		if n := larges(); n != 2 { // those of 1 and 101 are gone, 201 is too young among what is not deleted yet, 301 is not unpacked
			t.Errorf("%d large files are left", n)
		}
		number, err := j.Large(t.Context(), bytes.NewReader([]byte("nobody's")), 8)
		if err != nil {
			t.Fatal(err)
		}
		if j.Drop(t.Context(), number); larges() != 2 {
			t.Error("what no record names was not deleted")
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// fill puts a log of n objects into a bucket, of which all below packed is in the prefixes.
func fill(t *testing.T, b *bucket, n, packed uint64) {
	t.Helper()
	j := life(b, 9, nil)
	if _, err := j.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.Stop()
	for seq := uint64(1); seq <= n; seq++ {
		l := &format.Log{Author: format.ID{9}, Epoch: 1, Seq: seq, Packed: min(seq, packed), Trim: 1, Created: time.Now().UnixMilli()}
		f := file(fmt.Sprint("t", seq%10), seq, 100)
		data, err := l.Encode([]format.File{f})
		if err != nil {
			t.Fatal(err)
		}
		b.objects[format.ObjectName(1, seq)] = data
	}
}

// TestALongLogIsTakenOverInFewRequestsAndBoundedTime: what is packed is not read, and the
// rest many at once.
func TestALongLogIsTakenOverInFewRequestsAndBoundedTime(t *testing.T) {
	for name, c := range map[string]struct {
		n, packed uint64
		reads     int
		most      time.Duration
	}{
		"packed up to the last 300": {100_000, 99_701, 310, 2 * time.Second},
		"nothing is packed":         {20_000, 1, 20_010, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket(1)
				fill(t, b, c.n, c.packed)
				b.delay = 40 * time.Millisecond // there and back, 20 ms each on average
				b.opens = 0
				began := time.Now()
				j := life(b, 1, nil)
				taken, err := j.Join(t.Context())
				logs, took := taken.Logs, time.Since(began)
				if err != nil || uint64(len(logs)) != c.n+1-c.packed {
					t.Fatalf("%d objects: %v", len(logs), err)
				}
				t.Logf("%d objects of %d in %v and %d reads", len(logs), c.n, took, b.opens)
				if took > c.most || b.opens > c.reads {
					t.Errorf("it took %v and %d reads", took, b.opens)
				}
				if err := j.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestACleanEndLeavesNothingToRead for the next process, and its history.
func TestACleanEndLeavesNothingToRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		j := life(b, 1, nil)
		for txid := range uint64(50) {
			if err := j.Append(t.Context(), file("a", txid+1, 10), func(at Place, err error) {
				if err != nil {
					t.Error(err)
				}
				j.Unpacked(at.Epoch, at.Seq)
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.opens = 0
		next := life(b, 2, nil)
		taken, err := next.Join(t.Context())
		logs := taken.Logs
		if err != nil || len(logs) != 1 || len(logs[0].Records) != 0 || b.opens > 3 {
			t.Errorf("%d objects in %d reads: %v", len(logs), b.opens, err)
		}
		history, err := Read(t.Context(), b, Reading{Prefix: "a", History: true})
		if err != nil || len(history) != 51 {
			t.Errorf("the history has %d objects: %v", len(history), err)
		}
		// It is finished when it is old enough.
		for range 2 {
			if err := next.Finish(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			_, there := b.objects[format.ObjectName(1, 1)]
			b.mu.Unlock()
			if young := slices.Contains(next.Former(), 1); there != young {
				t.Errorf("its first object is there: %v; it is young: %v", there, young)
			}
			time.Sleep(time.Hour)
		}
		if len(next.Former()) != 0 {
			t.Error("it was not finished")
		}
		if err := next.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestWhoWaitsForALogThatCannotBeginHearsWhy, and it begins when the store answers.
func TestWhoWaitsForALogThatCannotBeginHearsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1)
		b.lose = 1
		j := life(b, 1, nil)
		for range 3 {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			if _, err := j.Join(ctx); !errors.Is(err, errLost) {
				t.Errorf("joined: %v", err)
			}
			if _, err := j.Large(ctx, bytes.NewReader(nil), 0); !errors.Is(err, errLost) {
				t.Errorf("a large file: %v", err)
			}
			stop()
		}
		b.mu.Lock()
		b.lose = 0
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if _, err := j.Join(t.Context()); err != nil {
			t.Errorf("joined: %v", err)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.late.Wait()
	})
}
