package multidbtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestTheMembershipInMemoryIsOne(t *testing.T) {
	multidbtest.RunMembershipConformance(t, func(*testing.T) multidbtest.MembershipUnderTest {
		m := multidbtest.NewMembership()
		return multidbtest.MembershipUnderTest{
			Node: func(*testing.T) multidb.Membership { return &machine{Membership: m} },
			Kill: func(on multidb.Membership) { m.Kill(on.(*machine).name) },
		}
	}, multidbtest.InVirtualTime())
}

// machine knows who has joined on it.
type machine struct {
	*multidbtest.Membership
	name string
}

func (m *machine) Join(ctx context.Context, self multidb.Member, ended string) (multidb.MemberSession, error) {
	m.name = self.Name
	return m.Membership.Join(ctx, self, ended)
}

func names(s multidb.MemberSession) string {
	var names []string
	for _, m := range s.Members() {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// TestACutOffNodeIsNotSeenAndSeesNothingUntilItIsHealed: what Partition says, and that what it
// wants to tell the others waits.
func TestACutOffNodeIsNotSeenAndSeesNothingUntilItIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := multidbtest.NewMembership()
		join := func(name string) multidb.MemberSession {
			s, err := m.Join(t.Context(), multidb.Member{Name: name, Life: "1"}, "")
			return must(t, s, err)
		}
		a, b := join("a"), join("b")
		m.Partition("b")
		if names(a) != "a" || names(b) != "a b" || !errors.Is(b.Err(), multidbtest.ErrPartitioned) || a.Err() != nil {
			t.Errorf("cut off, the members are %q and %q, the errors %v and %v", names(a), names(b), a.Err(), b.Err())
		}
		changed := b.Changed()
		join("c")
		if names(b) != "a b" || closed(changed) {
			t.Errorf("the one that is cut off sees %q", names(b))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Update(ctx, multidb.Member{Name: "b", Life: "1", Draining: true}); !errors.Is(err, multidbtest.ErrPartitioned) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an update of it: %v", err)
		}
		updated := make(chan error, 1)
		go func() { updated <- b.Update(t.Context(), multidb.Member{Name: "b", Life: "1", URL: "http://b"}) }()
		synctest.Wait()
		m.Heal("b")
		if err := <-updated; err != nil {
			t.Error(err)
		}
		if names(a) != "a b c" || names(b) != "a b c" || !closed(changed) || b.Err() != nil || a.Members()[1].URL != "http://b" {
			t.Errorf("healed, the members are %v and %q, the error %v", a.Members(), names(b), b.Err())
		}
	})
}

// TestAKilledNodeIsGoneAndKnowsIt: its name is free at once, and to leave is no error, as a
// Manager does that in the end.
func TestAKilledNodeIsGoneAndKnowsIt(t *testing.T) {
	m := multidbtest.NewMembership()
	ctx := t.Context()
	a, err := m.Join(ctx, multidb.Member{Name: "a", Life: "1"}, "")
	must(t, a, err)
	b, err := m.Join(ctx, multidb.Member{Name: "b", Life: "2"}, "")
	must(t, b, err)
	m.Kill("b")
	m.Kill("nobody")
	if names(a) != "a" || !errors.Is(b.Err(), multidbtest.ErrKilled) || !errors.Is(b.Update(ctx, multidb.Member{Name: "b", Life: "2"}), multidbtest.ErrKilled) {
		t.Errorf("the members are %q, its error is %v", names(a), b.Err())
	}
	again, err := m.Join(ctx, multidb.Member{Name: "b", Life: "3"}, "")
	must(t, again, err)
	if err := b.Leave(ctx); err != nil {
		t.Error(err)
	}
	if names(a) != "a b" || names(again) != "a b" {
		t.Errorf("the members are %q and %q after the dead one has left", names(a), names(again))
	}
}

// TestAJoinOfACutOffNodeWaits: as there is nobody whom it could tell.
func TestAJoinOfACutOffNodeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := multidbtest.NewMembership()
		m.Partition("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := m.Join(ctx, multidb.Member{Name: "a", Life: "1"}, ""); !errors.Is(err, multidbtest.ErrPartitioned) {
			t.Errorf("the error is %v", err)
		}
		joined := make(chan error, 1)
		go func() {
			_, err := m.Join(t.Context(), multidb.Member{Name: "a", Life: "1"}, "")
			joined <- err
		}()
		synctest.Wait()
		if len(joined) != 0 {
			t.Error("it did not wait")
		}
		m.Heal("a")
		if err := <-joined; err != nil {
			t.Error(err)
		}
	})
}
