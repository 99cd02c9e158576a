package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/member"
)

func lifeOf(n byte) (id format.ID) {
	id[0] = n
	return id
}

// nodes are members a, b, … with the epochs 1, 2, …, all alive.
func nodes(n int) (m *format.Map, members []member.Member) {
	m = &format.Map{Number: 1, Next: uint64(n) + 1}
	for i := range n {
		name := string(rune('a' + i))
		m.Live = append(m.Live, format.Live{Epoch: uint64(i) + 1, Life: lifeOf(byte(i + 1)), Node: name})
		members = append(members, member.Member{Name: name, Life: Name(lifeOf(byte(i + 1)))})
	}
	return m, members
}

func never(int) bool  { return false }
func always(int) bool { return true }

func viewOf(m *format.Map, members []member.Member, i int) view {
	return view{self: members[i], epoch: uint64(i) + 1, m: m, members: members, idle: always, stuck: never}
}

func TestANodeThatComesOrGoesMovesOnlyItsShare(t *testing.T) {
	five := place(nil, format.Shards, []string{"a", "b", "c", "d", "e"})
	six := place(nil, format.Shards, []string{"f", "e", "d", "c", "b", "a"})
	moved, share := 0, map[string]int{}
	for s := range five.of {
		share[six.of[s]]++
		if five.of[s] != six.of[s] {
			moved++
			if six.of[s] != "f" {
				t.Errorf("shard %d moves from %s to %s", s, five.of[s], six.of[s])
			}
		}
	}
	if moved != share["f"] || moved < format.Shards/12 || moved > format.Shards/4 {
		t.Errorf("%d shards move, of %d that the new node gets", moved, share["f"])
	}
	for node, n := range share {
		if n < format.Shards/12 || n > format.Shards/4 {
			t.Errorf("%s has %d shards of %d", node, n, format.Shards)
		}
	}
}

func TestAllNodesAgreeOnWhoClaimsAShardThatNobodyOwns(t *testing.T) {
	m, members := nodes(4)
	claimed := map[int]string{}
	for i := range members {
		do := newPlanner(time.Second, time.Second, 8).next(viewOf(m, members, i))
		if len(do.give) > 0 || len(do.takeOver) > 0 {
			t.Errorf("%s does %+v", members[i].Name, do)
		}
		for _, s := range do.claim {
			if who := claimed[s]; who != "" {
				t.Errorf("shard %d is claimed by %s and %s", s, who, members[i].Name)
			}
			claimed[s] = members[i].Name
		}
	}
	if len(claimed) != format.Shards {
		t.Errorf("%d shards are claimed", len(claimed))
	}
}

func TestAMoveIsOfAFewShardsToOneNodeThoseAtRestFirst(t *testing.T) {
	m, members := nodes(3)
	for s := range m.Owners {
		m.Owners[s] = 1
	}
	v := viewOf(m, members, 0)
	v.idle = func(s int) bool { return s%2 == 1 }
	stuck := map[int]bool{}
	v.stuck = func(s int) bool { return stuck[s] }
	p := newPlanner(time.Second, time.Second, 8)
	do := p.next(v)
	if len(do.give) != 1 {
		t.Fatalf("it gives to %d nodes at once", len(do.give))
	}
	for to, shards := range do.give {
		if len(shards) != 8 {
			t.Errorf("%d shards at once", len(shards))
		}
		for _, s := range shards {
			if !v.idle(s) || p.placed.of[s] != members[to-1].Name {
				t.Errorf("shard %d is given to %d", s, to)
			}
			stuck[s] = true
		}
		for _, again := range p.next(v).give[to] {
			if slices.Contains(shards, again) {
				t.Errorf("shard %d is tried again at once", again)
			}
		}
	}
	members[1].Draining, members[2].Draining = true, true
	if do := p.next(v); len(do.give) > 0 {
		t.Errorf("nodes that drain are given %v", do.give)
	}
	members[0].Draining, members[2].Draining = true, false
	v.self = members[0]
	if do := p.next(v); len(do.give[3]) != 8 {
		t.Errorf("a node that drains gives %v", do.give)
	}
}

// TestALogWithoutAMemberIsTakenOverByOneNodeAndByTheNextIfThatOneDoesNot: and by the node of the same name before all others.
func TestALogWithoutAMemberIsTakenOverByOneNodeAndByTheNextIfThatOneDoesNot(t *testing.T) {
	for epoch := range 5 {
		m, members := nodes(5)
		dead := members[epoch]
		alive := slices.Delete(slices.Clone(members), epoch, epoch+1)
		var order []time.Duration
		for i, self := range members {
			if i == epoch {
				continue
			}
			p := newPlanner(4*time.Second, 2*time.Second, 8)
			v := viewOf(m, members, i)
			if do := p.next(v); len(do.takeOver) > 0 {
				t.Fatalf("%s takes over %v while all are alive", self.Name, do.takeOver)
			}
			v.members = alive
			for v.now = time.Second; len(p.next(v).takeOver) == 0; v.now += 100 * time.Millisecond {
				if v.now > time.Minute {
					t.Fatalf("%s never takes over from %s", self.Name, dead.Name)
				}
			}
			order = append(order, v.now-time.Second)
		}
		slices.Sort(order)
		if want := []time.Duration{0, 2 * time.Second, 4 * time.Second, 6 * time.Second}; !slices.Equal(order, want) {
			t.Errorf("the log of %s is taken over after %v, want %v", dead.Name, order, want)
		}
		// Its own next process is among the members, by another life.
		again := append(slices.Clone(alive), member.Member{Name: dead.Name, Life: "ff"})
		for i, self := range members {
			p := newPlanner(4*time.Second, 2*time.Second, 8)
			v := viewOf(m, members, i)
			p.next(v)
			if v.members = again; i == epoch {
				v.self, v.epoch = again[len(again)-1], 99
			}
			v.now = time.Second
			if got := len(p.next(v).takeOver) > 0; got != (i == epoch) {
				t.Errorf("%s takes over from the former life of %s: %v", self.Name, dead.Name, got)
			}
		}
	}
}

func TestAnEpochThatIsNewInTheMapHasTimeToShowItsMember(t *testing.T) {
	m, members := nodes(2)
	late := members[1]
	p := newPlanner(4*time.Second, 2*time.Second, 8)
	v := viewOf(m, members[:1], 0)
	for v.now = 0; v.now < 4*time.Second; v.now += 500 * time.Millisecond {
		if do := p.next(v); len(do.takeOver) > 0 || do.wait <= 0 {
			t.Fatalf("after %v: %+v", v.now, do)
		}
	}
	v.members = []member.Member{members[0], late}
	p.next(v)
	v.now += time.Hour
	if do := p.next(v); len(do.takeOver) > 0 {
		t.Error("a node that lives is taken over")
	}
	m.Live[1].Sealed = 7
	v.members = members[:1]
	if do := p.next(v); len(do.takeOver) > 0 {
		t.Error("a log that was sealed is taken over once more")
	}
	if len(p.seen)+len(p.absent) != 0 {
		t.Errorf("it remembers %v and %v", p.seen, p.absent)
	}
}

func TestPlacingIsComputedOnceForTheSameNodes(t *testing.T) {
	names := []string{"b", "a"}
	p := place(nil, 16, names)
	if q := place(p, 16, []string{"a", "b"}); q != p {
		t.Error("it is computed again")
	}
	if q := place(p, 16, nil); slices.ContainsFunc(q.of, func(s string) bool { return s != "" }) {
		t.Error(fmt.Sprint("without nodes somebody has ", q.of))
	}
}
