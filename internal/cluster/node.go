// Package cluster makes one process a node of several that share a fleet: it decides which
// shards this node is to have, takes over the logs of nodes that have ended, and moves shards
// between those that live. Who owns a shard the fleet log alone says (package fleetlog): what
// is decided here from stale members or a late map costs time, and never a commit.
//
// One goroutine decides and acts; what others ask it they read from what that goroutine has
// published. Safe for concurrent use.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/fleetlog"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/store"
)

// Log is the fleet log, as a node uses it. Each call is as that of journal.Journal.
type Log interface {
	Begin(ctx context.Context) (epoch uint64, err error)
	Map() *format.Map
	Refresh(ctx context.Context) (*format.Map, error)
	// TakeOver ends the log of another epoch and takes its shards; what it had is known when
	// it returns.
	TakeOver(ctx context.Context, epoch uint64) error
	Claim(ctx context.Context, shards []int) error
	Release(ctx context.Context, shards []int) error
	Give(ctx context.Context, shards []int, to uint64) error
	Settle(ctx context.Context) error
	// Err is why this process writes nothing any more; nil: it does.
	Err() error
	Fence(why string)
	// Anew begins another log, that of a new life, after this one was fenced.
	Anew(life format.ID)
}

// Serving serves the databases of shards.
type Serving interface {
	// Gain begins to serve shards, which this node owns. ours: nobody but former lives of this node
	// has served them since what is on its disk.
	Gain(ctx context.Context, shards []int, ours bool) error
	// Yield stops serving shards, all of which is in their prefixes when it returns. begins is called when
	// nobody is served any more. Those that could not be let go of in time, as somebody holds a handle, are served on.
	Yield(ctx context.Context, shards []int, begins func()) (done []int, err error)
	// Lose stops serving everything at once, as another process has taken it over. Databases with
	// commits that nobody promised are set aside. Nothing uses the log any more when it
	// returns.
	Lose(ctx context.Context) error
	// Idle reports whether nothing of a shard was used lately.
	Idle(shard int) bool
}

// Config is how a Node works. All but Logger is required.
type Config struct {
	Self       member.Member
	Ended      string // the life of the former process of this node; empty: not known
	Membership member.Membership
	// Agree returns an error if this node is not set up as the others.
	Agree func(ctx context.Context) error
	// Final reports whether an error of the store does not pass by itself. Nil: none is known.
	Final func(error) bool
	// Reborn gives this process another life, and remembers it.
	Reborn  func() (format.ID, error)
	Log     Log
	Serving Serving

	Heartbeat time.Duration // between two looks at the map while nothing is expected
	Patience  time.Duration // for a node that is wanted more, at a take-over
	// Strict is for how long a node that cannot read the map still counts as the owner of what
	// it has; 0: for ever.
	Strict   time.Duration
	MaxMoves int // shards at once

	Boot   func() time.Duration
	Emit   func(Event)
	Logger *slog.Logger
}

// Event is something that a node did or met.
type Event struct {
	Kind   Kind
	Node   string // of whom
	Epoch  uint64
	Shards int
	Took   time.Duration
	Err    error
}

// Kind is what an Event tells.
type Kind uint8

// The kinds of events.
const (
	Joined    Kind = iota + 1 // this node has its epoch
	TakenOver                 // the log of a node that has ended was ended
	Gained                    // shards are served here from now on
	Moved                     // shards were given to a node that lives
	Stuck                     // shards could not be moved: Err says why
	Fenced                    // another process has taken this node over
	Troubled                  // something could not be done, and is tried again
)

// Node is a node of a cluster.
type Node struct {
	cfg     Config
	planner *planner
	kick    chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}
	sure    atomic.Int64 // Config.Boot when the last look at the map began that found this node in it

	// Of the goroutine.
	stuck  map[int]time.Duration // until when a shard is not tried again
	pauses map[int]time.Duration
	given  []gift
	// entering is the session of a join that has not got its epoch yet. fresh: what former lives of this node
	// had was not taken in yet.
	entering member.Session
	fresh    bool

	mu      sync.Mutex
	session member.Session // nil: while this node joins
	epoch   uint64         // 0: it has none
	served  [format.Shards]bool
	moving  [format.Shards]bool
	round   uint64        // rounds that have ended
	rounds  chan struct{} // closed when one ends
	placed  *placement    // as planned last
	fenced  error
	trouble error         // of the last round
	silent  time.Duration // since when the members cannot be asked; 0: they can
	since   time.Duration // of fenced
	drain   bool
	drained time.Duration // since when
	stats   Stats
}

// gift is shards that are not served any more, while the map still names this node.
type gift struct {
	shards []int
	to     uint64
	began  time.Duration
}

// Stats counts what a Node did.
type Stats struct {
	Moves     int64 // shards that were given away
	Gains     int64 // shards that were taken in
	TakeOvers int64 // logs that were ended
	Stuck     int64 // attempts to move a shard that handles prevented
	// LastMove and WorstMove are for how long the shards of a move were not served by this
	// node before the map named the next owner.
	LastMove, WorstMove time.Duration
}

// New returns a Node that does nothing yet.
func New(cfg Config) *Node {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Node{
		cfg: cfg, planner: newPlanner(2*cfg.Heartbeat, cfg.Patience, cfg.MaxMoves),
		kick: make(chan struct{}, 1), ended: make(chan struct{}), rounds: make(chan struct{}),
		stuck: map[int]time.Duration{}, pauses: map[int]time.Duration{},
	}
}

// Start joins the cluster, and returns when the first round has ended, in which a node that
// finds shards without an owner takes its share. ctx bounds that alone. An error means that this
// can be no node: it is set up differently, its name is taken, or the store refuses it. What may pass by itself
// is tried again by the rounds to come; Status has it as Trouble.
func (n *Node) Start(ctx context.Context) error {
	n.fresh = true
	n.sure.Store(int64(n.cfg.Boot()))
	if _, err := n.once(ctx); err != nil && (ctx.Err() != nil || n.final(err)) {
		return errors.Join(err, n.Leave(context.WithoutCancel(ctx)))
	} else if err != nil {
		n.cfg.Logger.Warn("multidb: a node could not do all that is due at its start, and tries again", "err", err)
	}
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	go n.run(loop)
	return nil
}

// errLocal wraps what fails on this machine.
var errLocal = errors.New("state of this node")

// final reports whether trying again would not help.
func (n *Node) final(err error) bool {
	for _, target := range []error{ErrSettings, member.ErrNameTaken, store.ErrNoConditionalWrites, format.ErrNewer, errLocal} {
		if errors.Is(err, target) {
			return true
		}
	}
	return n.cfg.Final != nil && n.cfg.Final(err)
}

// enter is the first join, and takes in what former lives of this node had.
func (n *Node) enter(ctx context.Context) error {
	if session, _ := n.current(); session == nil {
		if n.entering == nil {
			if err := n.cfg.Agree(ctx); err != nil {
				return err
			}
		}
		if err := n.join(ctx, n.cfg.Ended); err != nil {
			return err
		}
	}
	if err := n.gain(ctx, true); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	n.fresh = false
	return nil
}

// join makes this process life a member, and gives it an epoch. After an error it is called again.
func (n *Node) join(ctx context.Context, ended string) error {
	if n.entering == nil {
		session, err := n.cfg.Membership.Join(ctx, n.self(), ended)
		if err != nil {
			return fmt.Errorf("join the cluster as %q: %w", n.cfg.Self.Name, err)
		}
		n.entering = session
	}
	epoch, err := n.cfg.Log.Begin(ctx)
	if err != nil {
		return fmt.Errorf("join the fleet log: %w", err)
	}
	n.mu.Lock()
	n.session, n.epoch, n.fenced = n.entering, epoch, nil
	n.mu.Unlock()
	n.entering = nil
	n.emit(Event{Kind: Joined, Node: n.cfg.Self.Name, Epoch: epoch})
	return nil
}

// current is the session, if this process is a member, and its epoch.
func (n *Node) current() (session member.Session, epoch uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.session, n.epoch
}

// soon is how long a node waits between two looks while it expects something.
const soon = 250 * time.Millisecond

func (n *Node) run(ctx context.Context) {
	defer close(n.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var changed <-chan struct{}
		if session, _ := n.current(); session != nil {
			changed = session.Changed()
		}
		wait, err := n.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			n.cfg.Logger.Warn("multidb: a node could not do all that is due", "err", err)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-changed:
		case <-n.kick:
			// Whoever asks for what is not served here asks for a look at the map: a few a second
			// are enough for all of them.
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(wait, soon/2)):
			}
		}
	}
}

// once makes one round, and publishes what came of it.
func (n *Node) once(ctx context.Context) (wait time.Duration, err error) {
	wait, err = n.act(ctx)
	n.mu.Lock()
	if n.trouble = err; err == nil || ctx.Err() != nil {
		n.trouble = nil
	}
	if n.session == nil || n.session.Err() == nil {
		n.silent = 0
	} else if n.silent == 0 {
		n.silent = n.cfg.Boot()
	}
	n.round++
	close(n.rounds)
	n.rounds = make(chan struct{})
	n.mu.Unlock()
	return wait, err
}

// timeout bounds one step of a round, so that a request that hangs does not stop the node.
const timeout = 30 * time.Second

func (n *Node) act(ctx context.Context) (wait time.Duration, err error) {
	wait = n.cfg.Heartbeat
	// What is read of this disk when shards come takes as long as it takes: it would begin from the
	// start in the next round.
	whole := ctx
	bound := timeout
	if n.fresh || n.isFenced() != nil {
		bound += 6 * n.cfg.Heartbeat // a name that seems to be taken is waited for
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if n.isFenced() != nil {
		if err := n.rejoin(ctx); err != nil {
			return wait, fmt.Errorf("join the cluster again: %w", err)
		}
	} else if n.fresh {
		if err := n.enter(ctx); err != nil {
			return min(wait, time.Second), err
		}
	}
	looked := n.cfg.Boot()
	m, err := n.cfg.Log.Refresh(ctx)
	if err != nil {
		return soon, fmt.Errorf("read the map: %w", err)
	}
	session, epoch := n.current()
	if i := m.Find(epoch); i < 0 || m.Live[i].Sealed != 0 { // a log to which nothing is written meets no seal
		n.cfg.Log.Fence("the map says that it was sealed")
		n.lose(fmt.Errorf("%w: the map says so", fleetlog.ErrFenced))
		return 0, nil
	}
	n.sure.Store(int64(looked))
	if err := n.cfg.Log.Err(); errors.Is(err, fleetlog.ErrFenced) {
		n.lose(err)
		return 0, nil
	} else if err != nil {
		return wait, err
	}
	var errs []error
	if err := n.giveOn(ctx); err != nil { // else the map still names this node
		return soon, err
	}
	errs = append(errs, n.gain(whole, false))
	do := n.plan(session, epoch)
	for _, epoch := range do.takeOver {
		errs = append(errs, n.takeOver(ctx, epoch))
	}
	if len(do.claim) > 0 {
		errs = append(errs, n.cfg.Log.Claim(ctx, do.claim))
	}
	if errors.Join(errs...) == nil { // else the map may give more than is known to have been taken over
		errs = append(errs, n.gain(whole, false))
	}
	for to, shards := range do.give {
		errs = append(errs, n.move(ctx, shards, to))
	}
	errs = append(errs, n.cfg.Log.Settle(ctx))
	switch err := errors.Join(errs...); {
	case err != nil:
		return soon, err
	case len(do.give) > 0:
		return 0, nil
	case do.expects || do.wait > 0 && do.wait < wait:
		return min(wait, soon), nil
	}
	return wait, nil
}

func (n *Node) plan(session member.Session, epoch uint64) plan {
	now := n.cfg.Boot()
	self := n.self()
	members := slices.Clone(session.Members())
	for i := range members {
		if members[i].Name == self.Name {
			members[i].Draining = self.Draining
		}
	}
	do := n.planner.next(view{
		now: now, self: self, epoch: epoch, m: n.cfg.Log.Map(), members: members, idle: n.cfg.Serving.Idle,
		stuck: func(s int) bool { return n.stuck[s] > now },
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.placed = n.planner.placed
	if n.drain && now < n.drained+n.seen() { // or those who do not know yet would give it back
		do.give, do.expects = nil, true
	}
	return do
}

func (n *Node) self() member.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.cfg.Self
	m.Draining = n.drain
	return m
}

// gain serves what the map gives this node.
func (n *Node) gain(ctx context.Context, ours bool) error {
	var shards []int
	m := n.cfg.Log.Map()
	n.mu.Lock()
	epoch := n.epoch
	for s, owner := range m.Owners {
		if owner == epoch && !n.served[s] {
			shards = append(shards, s)
		}
	}
	n.mu.Unlock()
	if len(shards) == 0 {
		return nil
	}
	began := n.cfg.Boot()
	if err := n.cfg.Serving.Gain(ctx, shards, ours); err != nil {
		return fmt.Errorf("take in %d shards: %w", len(shards), err)
	}
	n.mu.Lock()
	for _, s := range shards {
		n.served[s] = true
	}
	n.stats.Gains += int64(len(shards))
	n.mu.Unlock()
	n.emit(Event{Kind: Gained, Node: n.cfg.Self.Name, Epoch: epoch, Shards: len(shards), Took: n.cfg.Boot() - began})
	return nil
}

func (n *Node) takeOver(ctx context.Context, epoch uint64) error {
	began := n.cfg.Boot()
	m := n.cfg.Log.Map()
	name := ""
	if i := m.Find(epoch); i >= 0 {
		name = m.Live[i].Node
	}
	if err := n.cfg.Log.TakeOver(ctx, epoch); err != nil {
		return fmt.Errorf("take over from node %q: %w", name, err)
	}
	failpoint.Hit("cluster.takeover.mapped")
	n.mu.Lock()
	n.stats.TakeOvers++
	n.mu.Unlock()
	n.emit(Event{Kind: TakenOver, Node: name, Epoch: epoch, Took: n.cfg.Boot() - began})
	return nil
}

// move gives shards to another node.
func (n *Node) move(ctx context.Context, shards []int, to uint64) error {
	began := n.cfg.Boot()
	n.mark(shards, true)
	defer n.mark(shards, false)
	done, err := n.cfg.Serving.Yield(ctx, shards, func() { began = n.cfg.Boot() })
	if left := without(shards, done); len(left) > 0 {
		n.postpone(left)
		n.emit(Event{Kind: Stuck, Node: n.cfg.Self.Name, Shards: len(left), Took: n.cfg.Boot() - began, Err: err})
	}
	if len(done) == 0 {
		return ctx.Err()
	}
	for _, s := range done {
		delete(n.pauses, s)
	}
	n.mu.Lock()
	for _, s := range done {
		n.served[s] = false
	}
	n.mu.Unlock()
	n.given = append(n.given, gift{done, to, began})
	failpoint.Hit("cluster.move.yielded")
	return n.giveOn(ctx)
}

// giveOn releases what is not served any more, and has the map name the next owners. It goes on
// where an attempt has failed, also one whose record is durable by now: a second release says
// nothing new.
func (n *Node) giveOn(ctx context.Context) error {
	for len(n.given) > 0 {
		g := n.given[0]
		if err := n.cfg.Log.Release(ctx, g.shards); err != nil {
			return fmt.Errorf("release %d shards: %w", len(g.shards), err)
		}
		failpoint.Hit("cluster.move.released")
		if err := n.cfg.Log.Give(ctx, g.shards, g.to); err != nil {
			return fmt.Errorf("give %d shards away: %w", len(g.shards), err)
		}
		failpoint.Hit("cluster.move.given")
		n.given = n.given[1:]
		took := n.cfg.Boot() - g.began
		m := n.cfg.Log.Map()
		name := ""
		if i := m.Find(g.to); i >= 0 {
			name = m.Live[i].Node
		}
		n.mu.Lock()
		n.stats.Moves += int64(len(g.shards))
		n.stats.LastMove, n.stats.WorstMove = took, max(n.stats.WorstMove, took)
		n.mu.Unlock()
		n.emit(Event{Kind: Moved, Node: name, Epoch: g.to, Shards: len(g.shards), Took: took})
	}
	return nil
}

// The pauses before a shard is tried again that could not be moved.
const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

func (n *Node) postpone(shards []int) {
	now := n.cfg.Boot()
	for _, s := range shards {
		pause := max(n.pauses[s], firstPause)
		n.stuck[s], n.pauses[s] = now+pause, min(2*pause, mostPause)
	}
	n.mu.Lock()
	n.stats.Stuck += int64(len(shards))
	n.mu.Unlock()
}

func (n *Node) mark(shards []int, moving bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range shards {
		n.moving[s] = moving
	}
}

// lose notes that another process has taken over. Whatever this one serves is void.
func (n *Node) lose(why error) {
	n.mu.Lock()
	epoch := n.epoch
	n.fenced, n.since, n.fresh = why, n.cfg.Boot(), false
	clear(n.served[:])
	clear(n.moving[:])
	n.mu.Unlock()
	n.given = nil
	n.emit(Event{Kind: Fenced, Node: n.cfg.Self.Name, Epoch: epoch, Err: why})
}

// rejoin begins another life after this node was taken over: it was only slow, or cut off.
func (n *Node) rejoin(ctx context.Context) error {
	if n.entering != nil { // the attempt before has come so far
		return n.join(ctx, "")
	}
	if err := n.cfg.Serving.Lose(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	session, former := n.session, n.cfg.Self.Life
	n.session = nil
	n.mu.Unlock()
	if session != nil {
		if err := session.Leave(ctx); err != nil { // the others know already, or will
			n.cfg.Logger.Warn("multidb: the other nodes could not be told that this one begins anew", "err", err)
		}
	}
	life, err := n.cfg.Reborn()
	if err != nil {
		return err
	}
	failpoint.Hit("cluster.rejoin.reborn")
	n.cfg.Log.Anew(life)
	n.mu.Lock()
	n.cfg.Self.Life = Name(life)
	n.mu.Unlock()
	return n.join(ctx, former)
}

func (n *Node) isFenced() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fenced
}

func (n *Node) emit(ev Event) {
	if n.cfg.Emit != nil {
		n.cfg.Emit(ev)
	}
}

func without(all, some []int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(s int) bool { return slices.Contains(some, s) })
}
