package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/member"
)

// Owner is who serves a shard, as far as this node knows.
type Owner struct {
	Member member.Member // the zero Member: nobody that is alive
	Self   bool
	Moving bool // away from this node, or to it
}

// Sure reports whether this node may count as the owner of what it has: always, unless
// Config.Strict says for how long, and it could not read the map for longer, or has met the seal of
// whoever took it over.
func (n *Node) Sure() bool {
	return n.cfg.Strict == 0 || n.cfg.Log.Err() == nil && n.cfg.Boot()-time.Duration(n.sure.Load()) <= n.cfg.Strict
}

// Owner says who serves a shard. It makes no request.
func (n *Node) Owner(shard int) Owner {
	m := n.cfg.Log.Map()
	if m == nil {
		return Owner{}
	}
	epoch := m.Owners[shard]
	n.mu.Lock()
	served, moving, mine, session := n.served[shard], n.moving[shard], epoch == n.epoch && n.fenced == nil && n.session != nil, n.session
	n.mu.Unlock()
	if mine && !n.Sure() {
		return Owner{Moving: true}
	} else if mine {
		return Owner{Member: n.self(), Self: served, Moving: moving || !served}
	}
	i := m.Find(epoch)
	if i < 0 || session == nil {
		return Owner{Moving: true}
	}
	life := Name(m.Live[i].Life)
	for _, who := range session.Members() {
		if who.Life == life {
			return Owner{Member: who}
		}
	}
	return Owner{Moving: true}
}

// Expects reports whether a shard is to be this node's once everything is placed.
func (n *Node) Expects(shard int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.placed != nil && n.placed.of[shard] == n.cfg.Self.Name
}

// Await returns when this node serves a shard, or when it is known, by a map that was read
// since, that it does not, or when ctx ends. It asks for a look at the map.
func (n *Node) Await(ctx context.Context, shard int) Owner {
	n.mu.Lock()
	from := n.round
	n.mu.Unlock()
	for {
		n.mu.Lock()
		round, next, fenced := n.round, n.rounds, n.fenced
		n.mu.Unlock()
		o := n.Owner(shard)
		// A round that had begun before may have read the map before.
		if o.Self && !o.Moving || fenced == nil && round >= from+2 && !o.Moving {
			return o
		}
		select {
		case n.kick <- struct{}{}:
		default:
		}
		select {
		case <-next:
		case <-n.ended:
			return n.Owner(shard)
		case <-ctx.Done():
			return n.Owner(shard)
		}
	}
}

// Drain gives everything away, and returns when this node owns nothing and the others have had
// the time to see that. It takes nothing any more, also if ctx ends first; then the error
// says what is left.
func (n *Node) Drain(ctx context.Context) error {
	n.mu.Lock()
	n.drain, n.drained = true, n.cfg.Boot()
	n.mu.Unlock()
	told := false
	for {
		n.mu.Lock()
		next, trouble, fenced, session, epoch := n.rounds, n.trouble, n.fenced, n.session, n.epoch
		n.mu.Unlock()
		if session != nil && fenced == nil && !told { // a session to come tells it by itself
			if err := session.Update(ctx, n.self()); err != nil && ctx.Err() == nil {
				return fmt.Errorf("tell the others: %w", err)
			}
			told = true
		}
		if m := n.cfg.Log.Map(); told && fenced == nil && session != nil && m != nil && !m.Owns(epoch) {
			// Until they have looked at the map they send here what is theirs by now.
			return ctxio.Sleep(ctx, n.seen())
		}
		select {
		case n.kick <- struct{}{}:
		default:
		}
		select {
		case <-next:
		case <-n.ended:
			return context.Canceled
		case <-ctx.Done():
			return n.undrained(context.Cause(ctx), trouble)
		}
	}
}

// seen is how long it takes until the others have looked at what is new.
func (n *Node) seen() time.Duration { return n.cfg.Heartbeat + n.cfg.Heartbeat/4 }

func (n *Node) undrained(cause, trouble error) error {
	left := 0
	session, epoch := n.current()
	if m := n.cfg.Log.Map(); m != nil {
		for _, owner := range m.Owners {
			if owner == epoch {
				left++
			}
		}
	}
	var others []string
	for _, m := range membersOf(session) {
		if m.Name != n.cfg.Self.Name && !m.Draining {
			others = append(others, m.Name)
		}
	}
	switch {
	case trouble != nil:
		return fmt.Errorf("%d shards are left: %w: %w", left, cause, trouble)
	case len(others) == 0:
		return fmt.Errorf("%d shards are left, as there is no other node to take them: %w", left, cause)
	}
	return fmt.Errorf("%d shards are left, of which handles are held, for %s: %w", left, strings.Join(others, ", "), cause)
}

// Stop ends the rounds. The shards stay this node's.
func (n *Node) Stop() {
	if n.stop != nil {
		n.stop()
		<-n.ended
	}
}

// farewell bounds how long a node that stops tries to tell the others: they find out by
// themselves.
const farewell = 5 * time.Second

// Leave tells the others that this node has gone. Nothing is written to its log any more: they
// end it.
func (n *Node) Leave(ctx context.Context) error {
	session, _ := n.current()
	if session == nil {
		session = n.entering // of the goroutine, which has ended, or of this one
	}
	if session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	return session.Leave(ctx)
}

// GiveUp has the shards owned by nobody, so that the others need not take them over: nothing of
// them is served any more, and all of it is in the prefixes.
func (n *Node) GiveUp(ctx context.Context) error {
	if n.isFenced() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	var mine []int
	_, epoch := n.current()
	m := n.cfg.Log.Map()
	if m == nil {
		return nil
	}
	for s, owner := range m.Owners {
		if owner == epoch {
			mine = append(mine, s)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	if err := n.cfg.Log.Release(ctx, mine); err != nil {
		return err
	}
	return n.cfg.Log.Give(ctx, mine, 0)
}

// Peer is one node, as another sees it.
type Peer struct {
	member.Member
	Alive  bool
	Self   bool
	Epoch  uint64 // 0: it has none yet
	Shards int
	Sealed bool // its log has ended, and is not finished
}

// Status is what a node knows of the cluster.
type Status struct {
	Peers  []Peer // members, and those of whom an epoch is left, by name
	Free   int    // shards that nobody owns
	Map    uint64 // number of the map
	Made   time.Time
	Served int // shards that this node serves
	Moving int // shards that this node gives away now
	// Expected is how many shards this node is to have once all is placed.
	Expected int
	Fenced   error
	Joined   bool // it is a member, and has a log that is not fenced
	Draining bool
	Trouble  error // of the last round, or of the membership
	Stats
}

// Status says what this node knows. It makes no request.
func (n *Node) Status() Status {
	m := n.cfg.Log.Map()
	n.mu.Lock()
	s := Status{Fenced: n.fenced, Trouble: n.trouble, Joined: n.session != nil && n.fenced == nil, Draining: n.drain, Stats: n.stats}
	for i := range n.served {
		if n.served[i] {
			s.Served++
		}
		if n.moving[i] {
			s.Moving++
		}
	}
	n.mu.Unlock()
	session, _ := n.current()
	if s.Trouble == nil && session != nil {
		s.Trouble = session.Err()
	}
	owned := map[uint64]int{}
	if m != nil {
		s.Map, s.Made = m.Number, time.UnixMilli(m.Created)
		for _, owner := range m.Owners {
			owned[owner]++
		}
		s.Free = owned[0]
	}
	epochs := map[string]format.Live{}
	if m != nil {
		for _, live := range m.Live {
			epochs[Name(live.Life)] = live
		}
	}
	var takers []string
	for _, who := range membersOf(session) {
		p := Peer{Member: who, Alive: true, Self: who.Name == n.cfg.Self.Name}
		if live, ok := epochs[who.Life]; ok {
			p.Epoch, p.Shards, p.Sealed = live.Epoch, owned[live.Epoch], live.Sealed != 0
			delete(epochs, who.Life)
		}
		if !who.Draining {
			takers = append(takers, who.Name)
		}
		s.Peers = append(s.Peers, p)
	}
	for life, live := range epochs {
		s.Peers = append(s.Peers, Peer{
			Member: member.Member{Name: live.Node, Life: life}, Epoch: live.Epoch, Shards: owned[live.Epoch], Sealed: live.Sealed != 0,
		})
	}
	slices.SortFunc(s.Peers, func(a, b Peer) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Life, b.Life)
	})
	for _, node := range place(nil, format.Shards, takers).of {
		if node == n.cfg.Self.Name {
			s.Expected++
		}
	}
	return s
}

// membersOf are the members that a session knows; nil: none.
func membersOf(s member.Session) []member.Member {
	if s == nil {
		return nil
	}
	return s.Members()
}

// unwellAfter is for how many heartbeats a node may be without the map or the members before
// that counts: a request or two that fail are nothing.
const unwellAfter = 3

// Unwell is why this node does not take part, and for how long it has not; nil: it does. It
// is fenced, or has not joined yet, or it could not read the map, or ask who is alive, for some heartbeats.
func (n *Node) Unwell() (since time.Duration, err error) {
	now := n.cfg.Boot()
	read, patience := now-time.Duration(n.sure.Load()), unwellAfter*n.cfg.Heartbeat
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.fenced != nil:
		return now - n.since, errors.Join(n.fenced, n.trouble)
	case n.session == nil:
		return read, fmt.Errorf("this node has not joined the cluster yet: %w", orUnknown(n.trouble))
	case read > patience:
		return read, fmt.Errorf("this node does not know for %v who owns what: %w", read.Round(time.Second), orUnknown(n.trouble))
	case n.silent != 0 && now-n.silent > patience:
		return now - n.silent, fmt.Errorf("this node does not know for %v which nodes are alive: %w", (now - n.silent).Round(time.Second), orUnknown(n.session.Err()))
	}
	return 0, nil
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("a request has not been answered yet")
	}
	return err
}
