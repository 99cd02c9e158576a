package bucket_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/member/bucket"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
)

// node is one process of a test.
type node struct {
	way     *machine
	session member.Session
}

// join joins as a name with a life over a way of its own, with what cfg has otherwise.
func join(t *testing.T, dir store.Objects, name, life, ended string, cfg bucket.Config) *node {
	t.Helper()
	n := &node{way: &machine{Objects: dir}}
	cfg.Objects = n.way
	s, err := newBucket(t, cfg).Join(t.Context(), member.Member{Name: name, Life: life, URL: "http://" + name + "/" + life}, ended)
	if err != nil {
		t.Fatalf("join as %s: %v", name, err)
	}
	n.session = s
	return n
}

func leave(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		n.way.cut.Store(false)
		if err := n.session.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// lives are the members of a session with their lives, in the order of the names.
func lives(s member.Session) string {
	var all []string
	for _, m := range s.Members() {
		all = append(all, m.Name+"@"+m.Life)
	}
	return strings.Join(all, " ")
}

func objectsOf(t *testing.T, dir store.Objects, prefix string) (names []string) {
	t.Helper()
	for info, err := range dir.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// rest lets time go by and then waits until everybody waits.
func rest(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestAnIdleNodeMakesOnePutAndOneListAHeartbeat: what doc.go says it costs.
func TestAnIdleNodeMakesOnePutAndOneListAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := multidbtest.NewReplica()
		dir := dirOf(t, r)
		a := join(t, dir, "a", "1", "", bucket.Config{})
		if s := r.RequestStats(); s.Put != 2 || s.List != 2 || s.Get+s.Delete != 0 {
			t.Errorf("joining took %+v, want two PUT and two LIST", s)
		}
		b := join(t, dir, "b", "2", "", bucket.Config{})
		rest(time.Minute)
		before := r.RequestStats()
		rest(4 * time.Hour)
		after := r.RequestStats()
		const nodes, beats = 2, 28_800 / 6
		for name, n := range map[string]int64{"PUT": after.Put - before.Put, "LIST": after.List - before.List, "deletion": after.Delete - before.Delete} {
			if n < nodes*beats-4 || n > nodes*beats+4 {
				t.Errorf("four hours of %d nodes took %d %ss, want %d each", nodes, n, name, beats)
			}
		}
		if after.Get != before.Get || after.Errors != 0 || after.Get != 2 {
			t.Errorf("the bodies were read %d and then %d times, with %d errors; want once by each of the two", before.Get, after.Get, after.Errors)
		}
		if n := objectsOf(t, dir, ""); len(n) != 4 {
			t.Errorf("there are %q, want the last two of each node", n)
		}
		leave(t, a, b)
		if n := objectsOf(t, dir, ""); len(n) != 0 {
			t.Errorf("%q is left of nodes that have left", n)
		}
	})
}

// TestASilentNodeIsGoneAfterNineToTwelveSeconds: doc.go says so, and operators wait for it.
func TestASilentNodeIsGoneAfterNineToTwelveSeconds(t *testing.T) {
	for ms := 0; ms < 3000; ms += 250 {
		synctest.Test(t, func(t *testing.T) {
			dir := dirOf(t, multidbtest.NewReplica())
			a := join(t, dir, "a", "1", "", bucket.Config{})
			b := join(t, dir, "b", "2", "", bucket.Config{})
			rest(10*time.Second + time.Duration(ms)*time.Millisecond)
			began := time.Now()
			b.way.cut.Store(true)
			for lives(a.session) != "a@1" {
				changed := a.session.Changed()
				<-changed
			}
			if took := time.Since(began); took < 6*time.Second || took > 12*time.Second {
				t.Errorf("cut off after %d ms, it was gone after %v", ms, took)
			}
			rest(time.Minute)
			if b.session.Err() == nil || lives(b.session) != "a@1 b@2" {
				t.Errorf("the one that is cut off sees %q and has the error %v", lives(b.session), b.session.Err())
			}
			b.way.cut.Store(false)
			rest(7 * time.Second)
			if lives(a.session) != "a@1 b@2" || b.session.Err() != nil {
				t.Errorf("back again, the members are %q, its error %v", lives(a.session), b.session.Err())
			}
			leave(t, a, b)
		})
	}
}

// TestANodeWhoseClockIsADayOffIsAMember: clocks of two machines are never compared.
func TestANodeWhoseClockIsADayOffIsAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		began := time.Now()
		off := func(by time.Duration) bucket.Config {
			return bucket.Config{Boot: func() time.Duration { return time.Since(began) + by }}
		}
		a := join(t, dir, "a", "1", "", off(0))
		b := join(t, dir, "b", "2", "", off(24*time.Hour))
		c := join(t, dir, "c", "3", "", off(-24*time.Hour))
		changed := false
		rest(5 * time.Second)
		for _, n := range []*node{a, b, c} {
			ch := n.session.Changed()
			defer func() {
				select {
				case <-ch:
					changed = true
				default:
				}
				if changed {
					t.Error("the members have changed")
				}
			}()
		}
		rest(time.Hour)
		for _, n := range []*node{a, b, c} {
			if lives(n.session) != "a@1 b@2 c@3" || n.session.Err() != nil {
				t.Errorf("the members are %q, the error %v", lives(n.session), n.session.Err())
			}
		}
		defer leave(t, a, b, c)
	})
}

// TestAnOutageOfTheBucketMakesNobodySuspectAnybody: all nodes were silent, and nobody may take the others
// for dead before these had time to come back.
func TestAnOutageOfTheBucketMakesNobodySuspectAnybody(t *testing.T) {
	for _, outage := range []time.Duration{2 * time.Second, 5 * time.Second, 7 * time.Second, 8 * time.Second, 9 * time.Second, 10 * time.Second, 15 * time.Second, time.Minute, time.Hour} {
		for _, hang := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := multidbtest.NewReplica()
				dir := dirOf(t, r)
				var nodes []*node
				for i := range 4 {
					nodes = append(nodes, join(t, dir, fmt.Sprint("n", i), fmt.Sprint(i), "", bucket.Config{}))
					rest(700 * time.Millisecond)
				}
				rest(20 * time.Second)
				changed := nodes[0].session.Changed()
				fault := multidbtest.Fault{Err: errCut}
				if hang {
					fault = multidbtest.Fault{Hang: true}
				}
				injected := r.Inject(fault)
				rest(outage)
				if outage > 12*time.Second && nodes[1].session.Err() == nil {
					t.Errorf("after %v of an outage there is no error", outage)
				}
				injected.Clear()
				rest(time.Minute)
				select {
				case <-changed:
					t.Errorf("an outage of %v (hanging: %v) has changed the members", outage, hang)
				default:
				}
				for _, n := range nodes {
					if err := n.session.Err(); err != nil {
						t.Errorf("after an outage of %v: %v", outage, err)
					}
				}
				leave(t, nodes...)
			})
		}
	}
}

// TestANodeThatCouldNotSeeForAWhileSuspectsNobodyAtOnce: the others have gone on, but it has yet to see
// that, and one that died meanwhile is found out all the same.
func TestANodeThatCouldNotSeeForAWhileSuspectsNobodyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		a := join(t, dir, "a", "1", "", bucket.Config{})
		b := join(t, dir, "b", "2", "", bucket.Config{})
		rest(10 * time.Second)
		a.way.cut.Store(true)
		rest(10 * time.Minute)
		b.way.cut.Store(true)
		rest(10 * time.Minute) // which a does not know
		a.way.cut.Store(false)
		rest(10 * time.Second)
		if got := lives(a.session); got != "a@1 b@2" {
			t.Errorf("10 seconds after it could see again, it sees %q", got)
		}
		rest(5 * time.Second)
		if got := lives(a.session); got != "a@1" {
			t.Errorf("15 seconds after it could see again, it sees %q", got)
		}
		leave(t, a, b)
	})
}

// TestWhoComesBackSecondsLaterIsNotSuspected: after an outage, as some find out later than others that it is
// over.
func TestWhoComesBackSecondsLaterIsNotSuspected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		a := join(t, dir, "a", "1", "", bucket.Config{})
		rest(1500 * time.Millisecond)
		b := join(t, dir, "b", "2", "", bucket.Config{})
		rest(8500 * time.Millisecond) // a has seen the last beat of b
		changed := a.session.Changed()
		a.way.cut.Store(true)
		b.way.cut.Store(true)
		rest(10 * time.Minute)
		a.way.cut.Store(false)
		rest(7 * time.Second)
		b.way.cut.Store(false)
		rest(time.Minute)
		select {
		case <-changed:
			t.Error("the members have changed")
		default:
		}
		if a.session.Err() != nil || b.session.Err() != nil {
			t.Errorf("the errors are %v and %v", a.session.Err(), b.session.Err())
		}
		leave(t, a, b)
	})
}

// TestOneHangingRequestDoesNotStopTheBeats: each is bounded in time.
func TestOneHangingRequestDoesNotStopTheBeats(t *testing.T) {
	for _, op := range []multidbtest.Op{multidbtest.OpCreateObject, multidbtest.OpListObjects, multidbtest.OpDeleteObjects} {
		synctest.Test(t, func(t *testing.T) {
			r := multidbtest.NewReplica()
			dir := dirOf(t, r)
			a := join(t, dir, "a", "1", "", bucket.Config{})
			b := join(t, dir, "b", "2", "", bucket.Config{})
			rest(10 * time.Second)
			changed := b.session.Changed()
			injected := r.Inject(multidbtest.Fault{Op: op, Times: 1, Hang: true})
			rest(time.Minute)
			if injected.Hits() != 1 {
				t.Errorf("%d requests hung", injected.Hits())
			}
			select {
			case <-changed:
				t.Errorf("%q hung once, and the members have changed to %q", op, lives(b.session))
			default:
			}
			leave(t, a, b)
		})
	}
}

// TestAJoinWaitsForTheSilenceOfItsNameAndDeletesWhatIsThere: after a crash nobody knows whether the
// process has ended.
func TestAJoinWaitsForTheSilenceOfItsNameAndDeletesWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		old := join(t, dir, "a", "1", "", bucket.Config{})
		rest(10 * time.Second)
		old.way.cut.Store(true)
		rest(time.Minute)
		began := time.Now()
		a := join(t, dir, "a", "2", "", bucket.Config{})
		if took := time.Since(began); took < bucket.DefaultSilence || took > bucket.DefaultSilence+2*bucket.DefaultHeartbeat {
			t.Errorf("it took %v", took)
		}
		if left := objectsOf(t, dir, "member/a@1/"); len(left) != 0 {
			t.Errorf("%q is there", left)
		}
		old.way.cut.Store(false) // it wakes up
		rest(20 * time.Second)
		if err := old.session.Err(); !errors.Is(err, member.ErrNameTaken) || !strings.Contains(err.Error(), "http://a/2") {
			t.Errorf("the former one says %v", err)
		}
		if err := a.session.Err(); err != nil {
			t.Errorf("the new one says %v", err)
		}
		if left := objectsOf(t, dir, "member/a@1/"); len(left) != 0 {
			t.Errorf("%q is there of the one that has lost its name", left)
		}
		leave(t, a)
		rest(20 * time.Second)
		if err := old.session.Err(); err != nil || len(objectsOf(t, dir, "member/a@1/")) == 0 {
			t.Errorf("the name is free, and the former one says %v", err)
		}
		leave(t, old)
	})
}

// TestALifeThatHasEndedIsIgnoredEvenIfItsLastRequestComesLate: it cannot make the name taken, and is
// deleted.
func TestALifeThatHasEndedIsIgnoredEvenIfItsLastRequestComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		put := func(number int) { create(t, dir, member.Member{Name: "a", Life: "1"}, number) }
		put(1)
		put(2)
		began := time.Now()
		a := join(t, dir, "a", "2", "1", bucket.Config{})
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		for n := 3; n < 10; n++ {
			put(n)
			rest(bucket.DefaultHeartbeat)
		}
		if err := a.session.Err(); err != nil || lives(a.session) != "a@2" {
			t.Errorf("the members are %q, the error %v", lives(a.session), err)
		}
		rest(2 * bucket.DefaultHeartbeat)
		if left := objectsOf(t, dir, "member/a@1/"); len(left) != 0 {
			t.Errorf("%q is there", left)
		}
		leave(t, a)
	})
}

// create creates an object of a member as a node does.
func create(t *testing.T, dir store.Objects, m member.Member, number int) string {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return createBody(t, dir, m.Name+"@"+m.Life, number, body)
}

func createBody(t *testing.T, dir store.Objects, life string, number int, body []byte) string {
	t.Helper()
	sum := sha256.Sum256(body)
	name := fmt.Sprintf("member/%s/%016x-%s", life, number, hex.EncodeToString(sum[:4]))
	if err := dir.Create(t.Context(), name, body); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestWhatWasSilentForTenMinutesIsDeletedByOthers: or listings would grow with every crash.
func TestWhatWasSilentForTenMinutesIsDeletedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		for n := range 40 { // more than is deleted after one look
			create(t, dir, member.Member{Name: "dead", Life: "d"}, n+1)
		}
		a := join(t, dir, "a", "1", "", bucket.Config{})
		rest(9 * time.Minute)
		if n := len(objectsOf(t, dir, "member/dead@d/")); n != 40 || lives(a.session) != "a@1" {
			t.Errorf("after nine minutes %d of the 40 objects are there, and the members are %q", n, lives(a.session))
		}
		rest(2 * time.Minute)
		if n := len(objectsOf(t, dir, "member/dead@d/")); n != 0 || bucket.Lives(a.session) != 1 {
			t.Errorf("after eleven minutes %d objects are there, and %d lives are remembered", n, bucket.Lives(a.session))
		}
		leave(t, a)
	})
}

// TestForeignObjectsAreIgnored: whoever can write to the bucket can put anything there. It may not stop
// the node, nor be read again each time.
func TestForeignObjectsAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := multidbtest.NewReplica()
		dir := dirOf(t, r)
		good, err := json.Marshal(member.Member{Name: "good", Life: "1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{
			"member/x", "member/x@1", "member/x@1/0000000000000001", "member/x@1/1-claim", "member/x@XYZ/0000000000000001-claim",
			"member/x@1/000000000000000G-claim", "member/@1/0000000000000001-claim", "member/x@1/0000000000000001-claim/x",
			"member/x@2/000000000000000A-12345678", "members/x@1/0000000000000001-claim", "0000000000000001/0000000000000001",
			"member/x@3/ffffffffffffffff-12345678", "member/x@4/0000000000000001-ABCDEF12", "member/x y@4/0000000000000001-12345678",
			"member/x@5/0000000000000001-123456789",
		} {
			if name == "member/x@1" || name == "member/x" { // directories of others
				continue
			}
			if err := dir.Create(t.Context(), name, []byte("junk")); err != nil && !strings.Contains(name, "claim/x") {
				t.Fatal(err)
			}
		}
		createBody(t, dir, "x@6", 1, []byte("null"))
		createBody(t, dir, "x@7", 1, []byte("{"))
		createBody(t, dir, "x@8", 1, good) // another's
		createBody(t, dir, "x@9", 1, nil)
		createBody(t, dir, "x@a", 1, []byte(`{"name":"x","life":"a","url":"`+strings.Repeat("u", 8<<10)+`"}`))
		createBody(t, dir, "x@b", 1, []byte(`{"name":["x"],"life":"b"}`))
		createBody(t, dir, "y@1", 1, []byte(`{"name":"y","life":"1","of a later version":{"more":[1]}}`))
		before := r.RequestStats()
		a := join(t, dir, "a", "1", "", bucket.Config{})
		rest(time.Second)
		if got := lives(a.session); got != "a@1 y@1" || a.session.Err() != nil {
			t.Errorf("the members are %q, the error is %v", got, a.session.Err())
		}
		rest(time.Minute)
		// x@3 is what its name does not say, x@6 to x@b are no members, and y is one.
		if n := r.RequestStats().Get - before.Get; n != 8 {
			t.Errorf("bodies were read %d times, want each of the eight once", n)
		}
		leave(t, a)
	})
}

// TestMoreLivesThanThereCanBeAreNotRemembered: memory is bounded, and the node stays a member.
func TestMoreLivesThanThereCanBeAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		for i := range bucket.MaxLives + 100 {
			if err := dir.Create(t.Context(), fmt.Sprintf("member/b@%x/%016x-claim", i, 1), nil); err != nil {
				t.Fatal(err)
			}
		}
		a := join(t, dir, "a", "1", "", bucket.Config{})
		z := join(t, dir, "z", "1", "", bucket.Config{}) // last in a listing
		rest(10 * time.Second)
		for _, n := range []*node{a, z} {
			if got := bucket.Lives(n.session); got > bucket.MaxLives+1 {
				t.Errorf("%d lives are remembered", got)
			}
			if err := n.session.Err(); err == nil || !strings.Contains(err.Error(), "more than 4096") {
				t.Errorf("its error is %v", err)
			}
			if !strings.Contains(lives(n.session), "a@1") {
				t.Errorf("the members are %q", lives(n.session))
			}
		}
		for _, n := range objectsOf(t, dir, "member/b@") {
			if err := dir.Delete(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		rest(10 * time.Second)
		if lives(a.session) != "a@1 z@1" || a.session.Err() != nil {
			t.Errorf("when they are deleted, the members are %q, the error %v", lives(a.session), a.session.Err())
		}
		leave(t, a, z)
	})
}

// TestOfTwoMembersWhoseClocksFailTheSmallerLifeStays: one whose clock stands still does not know
// that it was written off, so the rules before the last do not help.
func TestOfTwoMembersWhoseClocksFailTheSmallerLifeStays(t *testing.T) {
	for _, former := range []string{"1", "3"} {
		synctest.Test(t, func(t *testing.T) {
			dir := dirOf(t, multidbtest.NewReplica())
			old := join(t, dir, "a", former, "", bucket.Config{Boot: func() time.Duration { return time.Hour }})
			old.way.cut.Store(true)
			rest(time.Minute)
			a := join(t, dir, "a", "2", "", bucket.Config{})
			old.way.cut.Store(false)
			rest(time.Minute)
			stays, goes := old, a
			if former == "3" {
				stays, goes = a, old
			}
			if err := goes.session.Err(); !errors.Is(err, member.ErrNameTaken) {
				t.Errorf("the larger one says %v", err)
			}
			if err := stays.session.Err(); err != nil {
				t.Errorf("the smaller one says %v", err)
			}
			leave(t, a, old)
		})
	}
}

// TestAJoinTriesUntilItsContextEndsAndLeavesNothing: the store may come back, and a claim that stays
// makes the next one wait.
func TestAJoinTriesUntilItsContextEndsAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := multidbtest.NewReplica()
		dir := dirOf(t, r)
		injected := r.Inject(multidbtest.Fault{Op: multidbtest.OpListObjects, Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m := newBucket(t, bucket.Config{Objects: dir})
		began := time.Now()
		_, err := m.Join(ctx, member.Member{Name: "a", Life: "1"}, "")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		injected.Clear()
		injected = r.Inject(multidbtest.Fault{Op: multidbtest.OpListObjects, Times: 5})
		began = time.Now()
		a := join(t, dir, "a", "2", "", bucket.Config{})
		if took := time.Since(began); took != 5*bucket.DefaultHeartbeat || injected.Hits() != 5 {
			t.Errorf("the store failed five times, and joining took %v", took)
		}
		leave(t, a)
		r.Inject(multidbtest.Fault{Op: multidbtest.OpOpenObject}) // nobody can be read
		create(t, dir, member.Member{Name: "b", Life: "1"}, 1)
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := m.Join(ctx, member.Member{Name: "a", Life: "3"}, ""); !errors.Is(err, multidbtest.ErrInjected) {
			t.Errorf("nobody can be read, and joining says %v", err)
		}
		if left := objectsOf(t, dir, "member/a@"); len(left) != 0 {
			t.Errorf("%q is left", left)
		}
	})
}

// TestAStoreThatCannotKeepMembersIsRefusedAtOnce: it never gets better.
func TestAStoreThatCannotKeepMembersIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := multidbtest.NewReplica()
		r.Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, Err: store.ErrNoConditionalWrites})
		m := newBucket(t, bucket.Config{Objects: dirOf(t, r)})
		if _, err := m.Join(t.Context(), member.Member{Name: "a", Life: "1"}, ""); !errors.Is(err, store.ErrNoConditionalWrites) {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestAnUpdateIsToldAtOnceAndWaitsWhileItCannotBe: Drain waits for it.
func TestAnUpdateIsToldAtOnceAndWaitsWhileItCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := multidbtest.NewReplica()
		dir := dirOf(t, r)
		a := join(t, dir, "a", "1", "", bucket.Config{})
		self := a.session.Members()[0]
		rest(time.Second)
		self.Draining = true
		began := time.Now()
		if err := a.session.Update(t.Context(), self); err != nil || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		a.way.cut.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		self.Draining = false
		if err := a.session.Update(ctx, self); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errCut) {
			t.Errorf("cut off: %v", err)
		}
		a.way.cut.Store(false)
		rest(10 * time.Second) // what was wanted is told all the same
		b := join(t, dir, "b", "1", "", bucket.Config{})
		if got := b.session.Members()[0]; got != self {
			t.Errorf("the other one sees %v", got)
		}
		self.URL = strings.Repeat("u", 5<<10)
		if err := a.session.Update(t.Context(), self); !errors.Is(err, member.ErrInvalid) {
			t.Errorf("an URL of 5 KiB: %v", err)
		}
		leave(t, a, b)
	})
}

// TestALeaveThatFailsMayBeCalledAgain: what is left makes the others wait.
func TestALeaveThatFailsMayBeCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		a := join(t, dir, "a", "1", "", bucket.Config{})
		a.way.cut.Store(true)
		if err := a.session.Leave(t.Context()); !errors.Is(err, errCut) {
			t.Errorf("cut off, it has left with %v", err)
		}
		leave(t, a)
		if left := objectsOf(t, dir, ""); len(left) != 0 {
			t.Errorf("%q is left", left)
		}
	})
}

// TestTheLastRequestOfADeadProcessMayComeLate: the name is not taken by it.
func TestTheLastRequestOfADeadProcessMayComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dirOf(t, multidbtest.NewReplica())
		create(t, dir, member.Member{Name: "a", Life: "1"}, 1)
		go func() {
			<-time.After(time.Second)
			create(t, dir, member.Member{Name: "a", Life: "1"}, 2)
		}()
		a := join(t, dir, "a", "2", "", bucket.Config{})
		leave(t, a)
	})
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	dir := dirOf(t, multidbtest.NewReplica())
	for name, cfg := range map[string]bucket.Config{
		"no objects":           {},
		"a negative heartbeat": {Objects: dir, Heartbeat: -1},
		"a negative timeout":   {Objects: dir, Timeout: -1},
		"a short silence":      {Objects: dir, Silence: 8 * time.Second},
	} {
		if _, err := bucket.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzParse: what is parsed is what a node writes, in one way only.
func FuzzParse(f *testing.F) {
	for _, s := range slices.Sorted(maps.Keys(map[string]bool{
		"member/a@1/0000000000000001-claim": true, "member/a@1/0000000000000001-0123abcd": true, "member/@/": true, "": true,
	})) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := bucket.Parse(s); ok && p.Object() != s {
			t.Errorf("%q is read as %q", s, p.Object())
		}
	})
}
