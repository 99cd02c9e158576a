package multidb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/cluster"
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/life"
	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/member/bucket"
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/multidb-go/multidb/internal/roster"
	"github.com/multidb-go/multidb/internal/serving"
	"github.com/multidb-go/multidb/internal/store"
)

// Member is one node of a cluster, as the others see it.
type Member = member.Member

// Membership lets the nodes of a cluster know of each other. No promise of Sync rests on it:
// the fleet log decides who owns a database, and what a Membership gets wrong costs time. The
// default keeps the members in the bucket; package etcdmembership keeps them in etcd, and
// multidbtest.NewMembership in memory. multidbtest.RunMembershipConformance
// checks one of your own.
type Membership = member.Membership

// MemberSession is what a Membership tells one process.
type MemberSession = member.Session

// NotOwnerError is returned where a database belongs to another node of the cluster. It wraps
// ErrNotOwner.
type NotOwnerError struct {
	ID    ID
	Owner Owner
}

// Owner is who serves a database.
type Owner struct {
	// Node and URL are those of its node's ClusterConfig; both are empty while nobody serves it,
	// as while it moves, or after a node has died.
	Node, URL string
	// Self: it is this node.
	Self bool
	// Moving: this node knows that it is about to belong to another one, or has just begun to.
	Moving bool
}

func (e *NotOwnerError) Error() string {
	switch {
	case e.Owner.Node == "":
		return fmt.Sprintf("%v: %q is served by no node right now", ErrNotOwner, string(e.ID))
	case e.Owner.URL == "":
		return fmt.Sprintf("%v: %q is served by node %q", ErrNotOwner, string(e.ID), e.Owner.Node)
	}
	return fmt.Sprintf("%v: %q is served by node %q, %s", ErrNotOwner, string(e.ID), e.Owner.Node, e.Owner.URL)
}

// Unwrap returns ErrNotOwner.
func (e *NotOwnerError) Unwrap() error { return ErrNotOwner }

// ClusterConfig makes a Manager one node of several that share a fleet. Node is required.
type ClusterConfig struct {
	// Node is the node's name, unique in the cluster: that of the machine or the pod, which
	// stays the same when the process is started anew on the same disk. 1 to 63 letters,
	// digits, dots, hyphens and underscores.
	Node string
	// URL is where the application of this node is reached by the others ("http://10.0.0.7:8080"),
	// which Owner tells them. Empty: not at all.
	URL string
	// Membership tells who is alive. Nil: the bucket does, for a PUT and a LIST each Heartbeat.
	Membership Membership
	// Heartbeat is how often this node looks at who owns what, and, with the default Membership, says that it
	// is alive. With that one a node counts as gone after three Heartbeats, and all nodes have the
	// same. Default 3 s.
	Heartbeat time.Duration
	// MoveTimeout is how long the move of databases to another node waits for their handles, and for what is left to be
	// written then. If that is not done, the move is put off, and tried again after 1 to 30 s.
	// Who acquires one of them meanwhile waits. Default 1.5 s.
	MoveTimeout time.Duration
	// StrictOwnership is for how long this node serves on while it cannot read from the bucket whether it
	// still owns what it has: after that Acquire, Sync and the others return a NotOwnerError without a node,
	// until it can. At most two Heartbeats, it ends before another node takes over (with the default Membership, on machines whose clocks run
	// at about the same speed), so that nobody is served what is out of date. Handles that are out stay usable. 0: for ever; what is
	// committed meanwhile is local, and set aside if another node took over.
	StrictOwnership time.Duration
	// MaxMoves is how many of the 1,024 shards are moved at once. Default 16.
	MaxMoves int
}

func (cfg ClusterConfig) withDefaults() ClusterConfig {
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 3*time.Second)
	cfg.MoveTimeout = cmp.Or(cfg.MoveTimeout, 1500*time.Millisecond)
	cfg.MaxMoves = cmp.Or(cfg.MaxMoves, 16)
	return cfg
}

// WithCluster makes this Manager one node of several that share a fleet: the same discovery
// patterns, the same replica and template, and a local disk each. Each database is served by one of
// them, which the fleet log decides (WithFleetLog, whose default it implies): Acquire, Sync and
// the other methods of a database return a *NotOwnerError for one of another node, which says
// where that is; multidbhttp.Router passes requests on. A node that joins or leaves moves
// its share of the databases. Those of a node that died are served by another one, up to
// the last commit that its Sync had promised.
//
// A database has no fixed machine any more, so it is brought from the replica where it is used
// (WithRestoreOnOpen, which this implies). Files of databases that are another node's are
// a cache: nobody opens or ships them.
func WithCluster(cfg ClusterConfig) Option {
	return func(c *config) error {
		cfg := cfg.withDefaults()
		const option = "WithCluster"
		var errs []error
		if err := member.CheckName(cfg.Node); err != nil {
			errs = append(errs, invalid(option, "Node: %v", err))
		}
		if u, err := url.Parse(cfg.URL); cfg.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			errs = append(errs, invalid(option, "URL is %q; want one such as \"http://10.0.0.7:8080\"", cfg.URL))
		}
		if cfg.Heartbeat < 0 || cfg.MoveTimeout < 0 || cfg.StrictOwnership < 0 {
			errs = append(errs, invalid(option, "Heartbeat is %v, MoveTimeout %v, StrictOwnership %v; want durations above zero", cfg.Heartbeat, cfg.MoveTimeout, cfg.StrictOwnership))
		} else if cfg.StrictOwnership > 0 && cfg.StrictOwnership <= cfg.Heartbeat {
			errs = append(errs, invalid(option, "StrictOwnership is %v; want more than the Heartbeat of %v, after which this node looks again", cfg.StrictOwnership, cfg.Heartbeat))
		}
		if cfg.MaxMoves < 0 || cfg.MaxMoves > format.Shards {
			errs = append(errs, invalid(option, "MaxMoves is %d; want 1 to %d", cfg.MaxMoves, format.Shards))
		}
		c.cluster, c.restoreOpen = &cfg, true
		return errors.Join(errs...)
	}
}

// checkCluster compares the option with the others, and implies what it needs.
func (c *config) checkCluster() error {
	if c.cluster == nil {
		return nil
	}
	if c.replica == nil {
		return invalid("WithCluster", "there is no replica, which is what the nodes share; add multidb.WithReplica")
	}
	if r, ok := c.replica.(*S3Replica); ok && c.cluster.Membership == nil && !r.client.Deletes() {
		return invalid("WithCluster", "S3Config.NoDelete lets the signs of life of the nodes pile up in the bucket; set a Membership, such as package etcdmembership, or leave NoDelete out")
	}
	if c.fleetLog == nil {
		return WithFleetLog(FleetLogConfig{})(c)
	}
	return nil
}

// node is a Manager as a node of a cluster.
type node struct {
	*cluster.Node
	fleet   *fleet.Fleet
	locate  func(id string) (db registry.Database, source int, ok bool)
	prefix  func(registry.Database) fleet.Prefix
	wait    time.Duration // for a database that is about to be served here
	served  *serving.Serving
	tenants *serving.Tenants
	roster  *roster.Roster
	pages   store.Objects // where the roster's are
	logger  *slog.Logger
}

// nodeFile remembers the lives of this node, in the state directory.
const nodeFile = "node.json"

// remember gives this process a life as a node; the zero values without a cluster. copied: the
// state directory may be a copy.
func (m *Manager) remember(copied bool) (life format.ID, ended []format.ID, err error) {
	if m.cfg.cluster == nil {
		return life, nil, nil
	}
	return cluster.Remember(filepath.Join(m.dir, nodeFile), m.cfg.cluster.Node, copied)
}

// newNode makes the node; nil without a cluster.
func (m *Manager) newNode(life format.ID, ended []format.ID) (*node, error) {
	c := m.cfg.cluster
	if c == nil {
		return nil, nil
	}
	members := c.Membership
	objects := m.cfg.replica.(ReplicaObjects) // checkFleetLog
	dir, err := objects.Objects(m.cfg.fleetLog.Path)
	if err != nil {
		return nil, err
	}
	if members == nil {
		if members, err = bucket.New(bucket.Config{Objects: innerObjects{dir}, Heartbeat: c.Heartbeat, Boot: m.cfg.steady, Logger: m.cfg.logger}); err != nil {
			return nil, err
		}
	}
	former := ""
	if len(ended) > 0 {
		former = cluster.Name(ended[len(ended)-1])
	}
	log := m.fleetLog.Shared()
	n := &node{fleet: m.fleet, locate: m.survey.Locate, prefix: m.cfg.prefix, wait: 2 * c.Heartbeat, pages: innerObjects{dir}, logger: m.cfg.logger}
	tenants := &serving.Tenants{
		Locate: m.survey.Locate, Client: m.cfg.prefixClient,
		At: func(dir string) (registry.Database, error) {
			db, err := objects.DatabaseAt(dir)
			return db.inner(), err
		},
		Taken: log.Taken, Named: log.Named, Told: m.tenancy.Told, Pages: n.pages, Drop: m.tenancy.Drop, Warn: m.cfg.logger.Warn,
	}
	n.roster = roster.New(roster.Config{
		Objects: n.pages, Found: tenants.Found, Pause: c.Heartbeat / 2, Again: c.Heartbeat, Warn: m.cfg.logger.Warn,
		Shard: func(db registry.Database) (int, bool) {
			at := m.cfg.prefix(db)
			return at.Shard, at.Err == nil
		},
	})
	served := serving.New(serving.Config{
		Roster: n.roster, Shard: format.Shard,
		Fleet: m.fleet, Conductor: m.conductor, Opener: m.opener, Log: log, Prefix: m.cfg.prefix,
		Dir:     func(db registry.Database) (string, error) { return objects.Dir(databaseOf(db)) },
		Expects: func(shard int) bool { return n.Node.Expects(shard) },
		Rescan:  m.survey.Soon, Hide: m.tenancy.Hide, Settle: m.tenancy.Settle,
		Kept: m.cfg.removedRetention, Warn: m.cfg.logger.Warn, Now: m.cfg.now, Stat: m.cfg.stat, Move: c.MoveTimeout,
	})
	n.served, n.tenants = served, tenants
	m.tenancy.SetNames(n.roster)
	tenants.Serving, tenants.Roster = served, n.roster
	n.Node = cluster.New(cluster.Config{
		Self:  Member{Name: c.Node, URL: c.URL, Life: cluster.Name(life), Version: version()},
		Ended: former, Membership: members, Log: log,
		Agree: func(ctx context.Context) error {
			return cluster.Agree(ctx, innerObjects{dir}, cluster.SettingsOf(m.cfg.place()))
		},
		Final: func(err error) bool {
			return errors.Is(err, ErrAccessDenied) || errors.Is(err, ErrNoCredentials) || errors.Is(err, ErrNoBucket)
		},
		Reborn: func() (format.ID, error) {
			life, _, err := m.remember(false)
			return life, err
		},
		Serving:   served,
		Heartbeat: c.Heartbeat, Patience: 2 * c.Heartbeat, MaxMoves: c.MaxMoves, Strict: c.StrictOwnership,
		Boot: m.cfg.steady, Emit: m.clusterEvent, Logger: m.cfg.logger,
	})
	return n, nil
}

// place is the directory that the replica has for a database, with the names of its variables for
// their values; "" if it cannot be told.
func (c *config) place() string {
	db := Database{ID: "ID", RelPath: "PATH.db"}
	if r, ok := c.replica.(ReplicaVars); ok {
		for _, name := range r.Vars() {
			db.Vars = append(db.Vars, Var{Name: name, Value: strings.ToUpper(name)})
		}
	}
	dir, err := c.replica.(ReplicaObjects).Dir(db)
	if err != nil {
		return ""
	}
	return dir
}

// shard is that of an ID; false: no pattern allows it.
func (n *node) shard(id string) (int, bool) {
	db, ok := registry.Database{}, false
	if e := n.fleet.Get(id); e != nil {
		db, ok = e.Database(), true
	} else {
		db, _, ok = n.locate(id)
	}
	if !ok {
		return 0, false
	}
	at := n.prefix(db)
	return at.Shard, at.Err == nil
}

// here returns nil if a database is served by this node, or nobody's, and a NotOwnerError if it
// is not. Of one that is about to be served here it waits for that.
func (n *node) here(ctx context.Context, id string) error {
	if n == nil || n.fleet.Get(id) != nil && n.Sure() {
		return nil
	}
	shard, ok := n.shard(id)
	if !ok || n.fleet.Serves(shard) && n.Sure() {
		return nil
	}
	o := n.Node.Owner(shard)
	if ctx != nil && (!o.Self && (o.Member.Name == "" || n.Expects(shard)) || o.Self && o.Moving) {
		wait, cancel := context.WithTimeout(ctx, n.wait)
		o = n.Await(wait, shard)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if o.Self && !o.Moving {
		return nil
	}
	return &NotOwnerError{ID: ID(id), Owner: ownerOf(o)}
}

// elsewhere calls do where a database is served by this node, again if it begins to be while do
// is told that it is not.
func (n *node) elsewhere(ctx context.Context, id ID, do func() error) error {
	if n == nil {
		return do()
	}
	for range 3 {
		if err := n.here(ctx, string(id)); err != nil {
			return err
		}
		err := do()
		if errors.Is(err, registry.ErrNotFound) && n.known(ctx) {
			err = do()
		}
		if !errors.Is(err, fleet.ErrElsewhere) {
			return err
		}
	}
	shard, _ := n.shard(string(id))
	return &NotOwnerError{ID: id, Owner: ownerOf(n.Node.Owner(shard))}
}

// known waits until the databases of the shards that this node serves are known, if they are not;
// only then it is true.
func (n *node) known(ctx context.Context) bool {
	if ctx == nil || n.roster.Settled() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, n.wait)
	defer cancel()
	return n.roster.Wait(ctx) == nil
}

// all waits until the databases of the shards that this node serves are known.
func (n *node) all(ctx context.Context) error {
	if n == nil {
		return nil
	}
	if err := n.roster.Wait(ctx); err != nil {
		return fmt.Errorf("the bucket has not told yet which databases this node has: %w", err)
	}
	return nil
}

// leave tells the others that this node has gone, after everything.
func (n *node) leave(ctx context.Context) {
	if n == nil {
		return
	}
	if err := n.roster.Flush(ctx, func(int) bool { return true }); err != nil {
		n.logger.Warn("multidb: the pages that name this node's databases lack some, which are named when they are next used", "err", err)
	}
	if err := n.Leave(ctx); err != nil {
		n.logger.Warn("multidb: the other nodes have to find out that this one has left", "err", err)
	}
}

// names is told which databases there are; nil without a cluster.
func (n *node) names() *roster.Roster {
	if n == nil {
		return nil
	}
	return n.roster
}

// both is elsewhere for what is done with two databases: a node that does not own the second one
// cannot know whether its owner is making it right now, in a log that no prefix shows yet.
func (n *node) both(ctx context.Context, id, other ID, do func() error) error {
	return n.elsewhere(ctx, id, func() error {
		return n.elsewhere(ctx, other, do)
	})
}

func ownerOf(o cluster.Owner) Owner {
	return Owner{Node: o.Member.Name, URL: o.Member.URL, Self: o.Self, Moving: o.Moving}
}

// Owner says which node serves a database, as far as this one knows; without WithCluster
// this Manager does. It makes no request: a map that is out of date names the former owner,
// which knows better. The database need not exist. Errors: ErrNotFound for an ID
// that no pattern allows, ErrNotStarted, ErrClosed, as *Error.
func (m *Manager) Owner(_ context.Context, id ID) (Owner, error) {
	if err := m.fleet.Serving(); err != nil {
		return Owner{}, opError("look up", id, err)
	}
	if m.node == nil {
		return Owner{Self: true}, nil
	}
	shard, ok := m.node.shard(string(id))
	if !ok {
		return Owner{}, opError("look up", id, ErrNotFound)
	}
	return ownerOf(m.node.Node.Owner(shard)), nil
}

// Placed is a database of a cluster, as Everywhere finds it.
type Placed struct {
	ID    ID
	Owner Owner
	// RemovedAt and EraseAfter are those of one that Remove took out of service; zero: it is in
	// service.
	RemovedAt, EraseAfter time.Time
}

// Everywhere yields the databases of all nodes, in no order, with who serves them: those that this
// node knows, as All has them, and those that the bucket names, which it reads (with 1,024 requests
// at most, and one or two listings). One that another node made in the last seconds may be
// left out. After an error it ends. Without WithCluster it yields All and Removed. Errors:
// ErrNotStarted, ErrClosed, that of ctx, and what the bucket says.
func (m *Manager) Everywhere(ctx context.Context) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		if err := m.fleet.Serving(); err != nil {
			yield(Placed{}, fmt.Errorf("multidb: list the databases of all nodes: %w", err))
			return
		}
		here := map[ID]bool{}
		for s := range m.All() {
			here[s.ID] = true
			if !yield(Placed{ID: s.ID, Owner: m.self()}, nil) {
				return
			}
		}
		for r := range m.Removed() {
			if here[r.ID] {
				continue
			}
			here[r.ID] = true
			if !yield(Placed{ID: r.ID, Owner: m.ownerNow(r.ID), RemovedAt: r.RemovedAt, EraseAfter: r.EraseAfter}, nil) {
				return
			}
		}
		if m.node == nil {
			return
		}
		for page, err := range roster.All(ctx, m.node.pages, nil) {
			if err != nil {
				yield(Placed{}, fmt.Errorf("multidb: list the databases of all nodes: %w", err))
				return
			}
			owner := ownerOf(m.node.Node.Owner(page.Shard))
			for _, t := range page.Tenants {
				p := Placed{ID: ID(t.ID), Owner: owner, RemovedAt: t.Removed, EraseAfter: t.EraseAfter}
				if !here[p.ID] && !yield(p, nil) {
					return
				}
			}
		}
	}
}

// self is this node as an owner.
func (m *Manager) self() Owner {
	if m.cfg.cluster == nil {
		return Owner{Self: true}
	}
	return Owner{Node: m.cfg.cluster.Node, URL: m.cfg.cluster.URL, Self: true}
}

func (m *Manager) ownerNow(id ID) Owner {
	if m.node == nil {
		return m.self()
	}
	if shard, ok := m.node.shard(string(id)); ok {
		return ownerOf(m.node.Node.Owner(shard))
	}
	return Owner{}
}

// Drain gives all databases to other nodes, as before a deploy, and returns when this one serves none. It
// takes none any more from then on, also if ctx ends first: then the error says what is left,
// and giving goes on. Handles are waited for, as ClusterConfig.MoveTimeout says. Close follows. Without
// WithCluster it does nothing.
func (m *Manager) Drain(ctx context.Context) error {
	if err := m.fleet.Serving(); err != nil {
		return fmt.Errorf("multidb: drain: %w", err)
	}
	if m.node == nil {
		return nil
	}
	if err := m.node.Drain(ctx); err != nil {
		return fmt.Errorf("multidb: drain: %w", err)
	}
	return nil
}

// Nodes is what this node knows of the cluster; the zero value without WithCluster. It makes no request.
func (m *Manager) Nodes() ClusterStatus {
	n := m.started()
	if n == nil {
		return ClusterStatus{}
	}
	return clusterStatus(n.Status())
}

// NodesNow is Nodes with the newest object of each node's log, which it asks the bucket for: a
// request for each of them, and another one for each 1,000 objects. Errors: ErrNotStarted,
// ErrClosed, that of ctx, and what the bucket says; what Nodes knows is returned beside them.
func (m *Manager) NodesNow(ctx context.Context) (ClusterStatus, error) {
	s := m.Nodes()
	if err := m.fleet.Serving(); err != nil || m.node == nil {
		return s, err
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Epoch == 0 {
			continue
		}
		last, err := cluster.Last(ctx, m.node.pages, n.Epoch)
		if err != nil {
			return s, fmt.Errorf("multidb: nodes: %w", err)
		}
		n.LastObject, n.LastObjectAt = last.Number, last.At
	}
	return s, nil
}

// ClusterStatus is what a node knows of its cluster.
type ClusterStatus struct {
	Nodes []NodeStatus // by name
	// Map is the number of the map that says who owns what, and MapMade when it was made.
	Map     uint64
	MapMade time.Time
	Free    int // shards that nobody owns; there are 1,024
	Served  int // shards that this node serves
	Moving  int // shards that this node is giving away right now
	// Expected is how many shards this node is to have when all is in its place.
	Expected int
	// Moves counts the shards that this process gave away, Gains those that it took in, TakeOvers
	// the logs of other nodes that it has ended, and Stuck the attempts to move a shard that ended without.
	Moves, Gains, TakeOvers, Stuck int64
	// LastMove and WorstMove are for how long the shards of a move were served by nobody,
	// up to the map that names the next owner.
	LastMove, WorstMove time.Duration
	Joined              bool // this node takes part: it has joined, and was not fenced since
	Draining            bool // Drain was called: this node takes nothing any more
	// Err is why this node does not take part now, or what the last look at the map could not do, which
	// is tried again: it is fenced, or the bucket, or the others, cannot be asked.
	Err error
}

// NodeStatus is one node of a ClusterStatus.
type NodeStatus struct {
	Member
	Self   bool
	Alive  bool   // it is among the members
	Epoch  uint64 // of the log that it writes; 0: none yet
	Shards int
	Ended  bool // its log was ended by another node, which has yet to unpack it
	// LastObject is the number of the newest object of its log, and LastObjectAt when the store
	// says that it was written; only NodesNow asks. An idle node writes none.
	LastObject   uint64
	LastObjectAt time.Time
}

// Dead lists the nodes that are not alive while something is theirs: shards, or a log that nobody
// has ended. A former process of a node that is alive is none of them.
func (s ClusterStatus) Dead() (dead []NodeStatus) {
	for _, n := range s.Nodes {
		alive := func(other NodeStatus) bool { return other.Alive && other.Name == n.Name }
		if !n.Alive && (n.Shards > 0 || !n.Ended) && !slices.ContainsFunc(s.Nodes, alive) {
			dead = append(dead, n)
		}
	}
	return dead
}

func clusterStatus(s cluster.Status) ClusterStatus {
	c := ClusterStatus{
		Map: s.Map, MapMade: s.Made, Free: s.Free, Served: s.Served, Moving: s.Moving, Expected: s.Expected,
		Moves: s.Moves, Gains: s.Gains, TakeOvers: s.TakeOvers, Stuck: s.Stats.Stuck, LastMove: s.LastMove, WorstMove: s.WorstMove,
		Joined: s.Joined, Draining: s.Draining, Err: errors.Join(s.Fenced, s.Trouble),
	}
	for _, p := range s.Peers {
		c.Nodes = append(c.Nodes, NodeStatus{Member: p.Member, Self: p.Self, Alive: p.Alive, Epoch: p.Epoch, Shards: p.Shards, Ended: p.Sealed})
	}
	return c
}

// clusterEvent delivers what a node did.
func (m *Manager) clusterEvent(ev cluster.Event) {
	types := map[cluster.Kind]fleet.EventType{
		cluster.Gained: fleet.EventGained, cluster.Moved: fleet.EventMoved, cluster.Stuck: fleet.EventMoveStuck,
	}
	if t := types[ev.Kind]; t != 0 {
		m.fleet.Emit(fleet.Event{Type: t, Path: ev.Node, Epoch: ev.Epoch, Shards: ev.Shards, Err: ev.Err})
	}
}

// version is that of this module, as the program was built with it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == "github.com/multidb-go/multidb" {
			return dep.Version
		}
	}
	return ""
}

// started is this Manager as a node, once Start has returned; nil before, and without a cluster.
func (m *Manager) started() *node {
	var served bool
	m.fleet.Life(func(l *life.Life) { served = l.Served() })
	if !served { // Start is about to set it
		return nil
	}
	return m.node
}

// unwell is why this node does not take part, and since when; nil: it does, or there is no cluster.
func (n *node) unwell(now time.Time) (since time.Time, err error) {
	var ago time.Duration
	if n != nil {
		ago, err = n.Unwell()
	}
	return now.Add(-ago), err
}

// start begins what Start of a Manager is to begin.
func (n *node) start(ctx context.Context) error {
	if err := n.Node.Start(ctx); err != nil {
		return err
	}
	n.served.Start(n.tenants)
	return nil
}

// stop ends what goes on by itself.
func (n *node) stop() {
	n.Stop()
	n.served.Stop()
}

// lost is why Sync of a database may not return nil though all is at the replica.
func (n *node) lost(id string) error {
	if n == nil {
		return nil
	}
	return n.served.Lost(id)
}
