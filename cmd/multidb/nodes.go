package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/internal/control"
)

func nodesCommand() *command {
	return &command{
		name: "nodes", args: "[flags]",
		short: "list the nodes of the cluster, and which shards are whose",
		long: `
The 1,024 shards are the parts that the databases of a cluster are moved in. The
running replicate is asked, and says what it knows: members, and the map of who owns
what. Both are some seconds old. What the newest object of each log is it asks the
bucket. Without a running replicate nothing can be told.

A node is alive, draining (it gives away what it has), dead (shards, or a log, are
still its own), or gone: what it had is at other nodes, or at its next process, and
its log is not unpacked yet.

Ends with 3 if a node is dead, if nobody owns some of the shards, or if the node that
is asked does not take part. Seconds of that are usual after a node has died.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addConfig(fs)
			s.addStateDir(fs)
			asJSON := addJSON(fs)
			timeout := fs.Duration("timeout", 10*time.Second, "how long the running replicate may take to answer")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				if *timeout <= 0 {
					return usagef("-timeout is %v; want a duration above zero", *timeout)
				}
				running, err := s.dialRunning(ctx, e)
				if err != nil {
					return err
				}
				defer running.Close()
				bounded, cancel := context.WithTimeout(ctx, *timeout)
				defer cancel()
				c, err := running.Nodes(bounded)
				if err != nil {
					return err
				}
				return showNodes(e, c, asJSON.use(e.stdout))
			}
		},
	}
}

func drainCommand() *command {
	return &command{
		name: "drain", args: "[flags]",
		short: "give all databases of the running replicate to other nodes, as before a deploy",
		long: `
Ends with 0 when this node has none left; then it can be stopped and started anew. It
takes none any more until then. A database that is in use is waited for, as
move-timeout says, and tried again.

Ends with 3 if something is left after -timeout, which it names: the node goes on
giving away. So it does after Ctrl-C.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addConfig(fs)
			s.addStateDir(fs)
			asJSON := addJSON(fs)
			quiet := addQuiet(fs)
			timeout := fs.Duration("timeout", 2*time.Minute, "how long to wait until nothing is left")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				if *timeout <= 0 {
					return usagef("-timeout is %v; want a duration above zero", *timeout)
				}
				running, err := s.dialRunning(ctx, e)
				if err != nil {
					return err
				}
				defer running.Close()
				return drain(ctx, e, running, *timeout, asJSON.use(e.stdout), *quiet)
			}
		},
	}
}

// showNodes writes what a node knows: who is asked, and a line for each node.
func showNodes(e *env, c control.Cluster, asJSON bool) error {
	if asJSON {
		if err := e.fields(true, c); err != nil {
			return err
		}
	} else if err := tableOfNodes(e, c); err != nil {
		return err
	}
	if !c.Well() {
		return errPartly
	}
	return nil
}

func tableOfNodes(e *env, c control.Cluster) error {
	worst := "none yet"
	if c.WorstMove > 0 {
		worst = fmt.Sprintf("last %s, worst %s", showDuration(c.LastMove), showDuration(c.WorstMove))
	}
	cells := []string{
		"asked", fmt.Sprintf("node %s, process %d", show(c.Node), c.PID),
		"map", fmt.Sprintf("%d, made %s", c.Map, showTime(c.MapMade)),
		"shards", fmt.Sprintf("%d served here of %d that are to be, %d moving away; %d are nobody's", c.Served, c.Expected, c.Moving, c.Free),
		"moved", fmt.Sprintf("%d away, %d here, %d nodes taken over, %d attempts put off", c.Moves, c.Gains, c.TakeOvers, c.Stuck),
		"without service", worst,
	}
	if c.Error != "" {
		cells = append(cells, "does not take part", show(c.Error))
	}
	if c.NoObjects != "" {
		cells = append(cells, "last objects", show(c.NoObjects))
	}
	if err := e.fields(false, nil, cells...); err != nil {
		return err
	}
	out := newRows(e.stdout, false, "\nNODE", "STATE", "SHARDS", "EPOCH", "LAST OBJECT", "URL", "VERSION")
	for _, n := range c.Nodes {
		name, epoch, last := show(n.Name), "-", "-"
		if n.Self {
			name += " (asked)"
		}
		if n.Epoch > 0 {
			epoch = strconv.FormatUint(n.Epoch, 10)
		}
		if n.LastObject > 0 {
			last = fmt.Sprintf("%d, %s", n.LastObject, showTime(n.LastObjectAt))
		}
		if err := out.add(n, name, nodeState(n), strconv.Itoa(n.Shards), epoch, last, showDash(n.URL), showDash(n.Version)); err != nil {
			return err
		}
	}
	return out.end()
}

// showDash is for what another machine says, and may leave out.
func showDash(s string) string {
	if s == "" {
		return "-"
	}
	return show(s)
}

// nodeState is a node in a few words.
func nodeState(n control.Node) string {
	state := "alive"
	switch {
	case n.Dead:
		state = "dead"
	case !n.Alive:
		state = "gone"
	case n.Draining:
		state = "draining"
	}
	if n.Ended {
		state += ", its log has ended"
	}
	return state
}

// drain shows how far the running replicate has come, and returns when nothing is left.
func drain(ctx context.Context, e *env, c *control.Client, timeout time.Duration, asJSON, quiet bool) error {
	p := newProgress(e.stderr, quiet, "shards given away", nil)
	last, err := func() (last control.Drained, err error) {
		defer p.end()
		for d, err := range c.Drain(ctx, timeout) {
			if err != nil {
				return last, err
			}
			p.total.Store(max(p.total.Load(), int64(d.Left)))
			p.done.Store(p.total.Load() - int64(d.Left))
			last = d
		}
		return last, nil
	}()
	switch {
	case err != nil:
		return err
	case !last.Done && last.Error == "":
		return errors.New("the running replicate ended before everything was given away")
	}
	if err := e.fields(asJSON, last, "node", show(last.Node), "shards left", strconv.Itoa(last.Left)); err != nil { // the error follows
		return err
	}
	switch {
	case last.Late:
		e.note("%s", show(last.Error))
		return errPartly
	case last.Error != "":
		return errors.New(show(last.Error))
	}
	return nil
}

// nodeName is that of a configuration; empty: it is no node of a cluster.
func nodeName(c *config.Config) string {
	if n := c.Cluster(); n != nil {
		return n.Node
	}
	return ""
}

// Everywhere lists the databases of all nodes.
func (s *served) Everywhere(ctx context.Context) iter.Seq2[control.Placed, error] {
	return func(yield func(control.Placed, error) bool) {
		for p, err := range s.m.Everywhere(ctx) {
			one := control.Placed{
				ID: string(p.ID), Node: p.Owner.Node, URL: p.Owner.URL, Self: p.Owner.Self, RemovedAt: p.RemovedAt, EraseAfter: p.EraseAfter,
			}
			if !yield(one, err) {
				return
			}
		}
	}
}

// Nodes is what this node knows of its cluster.
func (s *served) Nodes() (control.Cluster, error) {
	if s.node == "" {
		return control.Cluster{}, control.ErrNoCluster
	}
	return s.nodes(s.m.Nodes()), nil
}

// NodesNow is Nodes with the newest object of each log. Where the bucket cannot say, that is missing.
func (s *served) NodesNow(ctx context.Context) (control.Cluster, error) {
	if s.node == "" {
		return control.Cluster{}, control.ErrNoCluster
	}
	st, err := s.m.NodesNow(ctx)
	c := s.nodes(st)
	if err != nil {
		c.NoObjects = inOneLine(err)
	}
	return c, nil
}

func (s *served) nodes(st multidb.ClusterStatus) control.Cluster {
	c := control.Cluster{
		Node: s.node, PID: os.Getpid(), Map: st.Map, MapMade: st.MapMade,
		Free: st.Free, Served: st.Served, Expected: st.Expected, Moving: st.Moving,
		Moves: st.Moves, Gains: st.Gains, TakeOvers: st.TakeOvers, Stuck: st.Stuck,
		LastMove: st.LastMove, WorstMove: st.WorstMove,
	}
	if st.Err != nil {
		c.Error = inOneLine(st.Err)
	}
	dead := st.Dead()
	for _, n := range st.Nodes {
		c.Nodes = append(c.Nodes, control.Node{
			Name: n.Name, URL: n.URL, Version: n.Version, Life: n.Life, Self: n.Self, Alive: n.Alive, Draining: n.Draining,
			Dead: slices.Contains(dead, n), Epoch: n.Epoch, Shards: n.Shards, Ended: n.Ended,
			LastObject: n.LastObject, LastObjectAt: n.LastObjectAt,
		})
	}
	return c
}

// drainTold is how often it is told how far a draining is.
const drainTold = 250 * time.Millisecond

// Drain gives everything to other nodes.
func (s *served) Drain(ctx context.Context, timeout time.Duration, tell func(control.Drained) error) {
	late := fmt.Errorf("not done within %v", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	state := func() control.Drained {
		c, _ := s.Nodes() // which is a node: the caller has asked
		return control.Drained{Node: s.node, Left: c.Owned(), Moving: c.Moving}
	}
	s.logger.Info("draining by command", "shards", state().Left)
	ended := make(chan error, 1)
	go func() { ended <- s.m.Drain(ctx) }()
	tick := time.NewTicker(drainTold)
	defer tick.Stop()
	gone := tell(state()) != nil
	for {
		select {
		case err := <-ended:
			s.logger.Info("drained by command", "err", err)
			d := state()
			if d.Done = err == nil; err != nil {
				d.Error, d.Late = inOneLine(err), errors.Is(err, late)
			}
			if !gone {
				_ = tell(d) // an error means that the client has gone
			}
			return
		case <-tick.C:
			if !gone && tell(state()) != nil {
				gone = true
				cancel()
			}
		}
	}
}

// inOneLine is an error of the Manager, which may have joined several.
func inOneLine(err error) string {
	return words(strings.ReplaceAll(strings.TrimPrefix(cause(err), "multidb: "), "\n", "; "))
}
