package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/superfly/ltx"
)

// gate is what lies between one life of a machine and the store. While the machine
// is asleep no request starts and no answer returns. One that was under way arrives
// before, at some moment of the sleep, or after it. After kill nothing arrives but
// at most one request that was under way, late.
type gate struct {
	latency time.Duration // of a request, and of its answer, at most
	late    time.Duration // by how much the one of a dead life is late, at most
	log     func(format string, args ...any)

	flying sync.WaitGroup

	mu     sync.Mutex
	rng    *rand.Rand
	asleep bool
	until  time.Time
	wake   chan struct{} // closed while awake
	nod    chan struct{} // closed while asleep
	killed chan struct{}
	ghosts int  // requests that may still arrive after kill
	ghost  bool // one is on its way
	lose   int  // percent of the answers
	trap   *trap
	sleeps int
}

// trap puts the machine to sleep at one of the next requests of a kind.
type trap struct {
	op    multidbtest.Op // empty: any
	skip  int
	after bool // the request is under way then; otherwise it has not started
	d     time.Duration
}

var (
	errDead = errors.New("the machine is dead")
	errLost = errors.New("the answer was lost")
)

func newGate(rng *rand.Rand, latency, late time.Duration, log func(string, ...any)) *gate {
	g := &gate{rng: rng, latency: latency, late: late, log: log, wake: make(chan struct{}), nod: make(chan struct{}), killed: make(chan struct{})}
	close(g.wake)
	return g
}

func (g *gate) sleep(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sleepLocked(d)
}

func (g *gate) sleepLocked(d time.Duration) {
	if g.asleep || g.deadLocked() {
		return
	}
	g.log("falls asleep for %v", d)
	g.sleeps++
	g.asleep, g.until, g.wake = true, time.Now().Add(d), make(chan struct{})
	close(g.nod)
	time.AfterFunc(d, g.wakeUp)
}

func (g *gate) wakeUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asleep && !time.Now().Before(g.until) {
		g.log("wakes up")
		g.asleep, g.nod = false, make(chan struct{})
		close(g.wake)
	}
}

func (g *gate) isAsleep() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asleep
}

func (g *gate) deadLocked() bool {
	select {
	case <-g.killed:
		return true
	default:
		return false
	}
}

func (g *gate) isDead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deadLocked()
}

func (g *gate) set(t *trap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trap = t
}

func (g *gate) loseAnswers(percent int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lose = percent
}

// kill ends the life. Of the writes and deletions under way as many as ghosts says
// may arrive yet.
func (g *gate) kill(ghosts int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.deadLocked() {
		g.ghosts = ghosts
		close(g.killed)
	}
}

// haunted reports whether a request of a dead life is on its way.
func (g *gate) haunted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ghost
}

// sprung springs the trap at a request.
func (g *gate) sprung(op multidbtest.Op, after bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.trap
	if t == nil || t.after != after || t.op != "" && t.op != op {
		return
	}
	if t.skip--; t.skip < 0 {
		g.trap = nil
		g.log("at a %s, after its start: %v:", op, after)
		g.sleepLocked(t.d)
	}
}

// awake waits until the machine is.
func (g *gate) awake(ctx context.Context) error {
	for {
		g.mu.Lock()
		wake, asleep := g.wake, g.asleep
		g.mu.Unlock()
		select {
		case <-g.killed:
			return errDead
		default:
		}
		if !asleep {
			return ctx.Err()
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.killed:
			return errDead
		}
	}
}

func (g *gate) draw(d time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d <= 0 {
		return 0
	}
	return time.Duration(g.rng.Int64N(int64(d)))
}

// travel is a request's way to the store, and reports whether it arrives.
func (g *gate) travel(changes bool) bool {
	arrival := time.NewTimer(g.draw(g.latency))
	defer arrival.Stop()
	g.mu.Lock()
	nod := g.nod
	g.mu.Unlock()
	for {
		select {
		case <-arrival.C:
			return true
		case <-g.killed:
			g.mu.Lock()
			if g.ghosts--; !changes || g.ghosts < 0 {
				g.mu.Unlock()
				return false
			}
			g.ghost = true
			d := time.Duration(g.rng.Int64N(int64(g.late)))
			g.mu.Unlock()
			time.Sleep(d)
			g.log("a request of a dead life arrives")
			return true
		case <-nod:
			nod = nil
			g.mu.Lock()
			left := max(time.Until(g.until), time.Nanosecond)
			switch g.rng.IntN(3) {
			case 0:
				left = 0
			case 1:
				left = time.Duration(g.rng.Int64N(int64(left)))
			default:
				left += time.Duration(g.rng.Int64N(int64(g.latency)))
			}
			g.mu.Unlock()
			arrival.Reset(left)
		}
	}
}

// ask makes one request.
func ask[T any](ctx context.Context, g *gate, op multidbtest.Op, apply func() (T, error)) (T, error) {
	var none T
	g.sprung(op, false)
	if err := g.awake(ctx); err != nil {
		return none, err
	}
	type result struct {
		v   T
		err error
	}
	answer := make(chan result, 1)
	changes := op == multidbtest.OpWrite || op == multidbtest.OpDelete || op == multidbtest.OpCreateObject || op == multidbtest.OpDeleteObjects
	g.mu.Lock()
	lost := g.rng.IntN(100) < g.lose
	g.mu.Unlock()
	g.flying.Go(func() {
		if !g.travel(changes) {
			return
		}
		v, err := apply()
		g.mu.Lock()
		g.ghost = g.ghost && !g.deadLocked()
		g.mu.Unlock()
		time.Sleep(g.draw(g.latency))
		if lost {
			err = errLost
		}
		answer <- result{v, err}
	})
	g.sprung(op, true)
	var r result
	select {
	case r = <-answer:
	case <-ctx.Done():
		return none, ctx.Err()
	case <-g.killed:
		return none, errDead
	}
	if err := g.awake(ctx); err != nil {
		return none, err
	}
	return r.v, r.err
}

// gated is the store as one life of a machine sees it.
type gated struct {
	*multidbtest.Replica
	gate *gate
}

func (r *gated) Check(ctx context.Context) error { return r.Replica.Check(ctx) }

func (r *gated) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	c, err := r.Replica.ReplicaClient(db)
	if err != nil {
		return nil, err
	}
	return &gatedClient{ReplicaClient: c, gate: r.gate}, nil
}

type gatedClient struct {
	litestream.ReplicaClient
	gate *gate
}

var (
	_ multidb.FileLister    = (*gatedClient)(nil)
	_ multidb.MetadataStore = (*gatedClient)(nil)
)

func (c *gatedClient) Init(ctx context.Context) error {
	return c.gate.awake(ctx)
}

func (c *gatedClient) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	return ask(ctx, c.gate, multidbtest.OpList, func() (ltx.FileIterator, error) {
		return c.ReplicaClient.LTXFiles(context.Background(), level, seek, useMetadata)
	})
}

func (c *gatedClient) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	return ask(ctx, c.gate, multidbtest.OpList, func() ([]*ltx.FileInfo, error) {
		return c.ReplicaClient.(multidb.FileLister).AllLTXFiles(context.Background(), useMetadata)
	})
}

func (c *gatedClient) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	return ask(ctx, c.gate, multidbtest.OpOpen, func() (io.ReadCloser, error) {
		return c.ReplicaClient.OpenLTXFile(context.Background(), level, minTXID, maxTXID, offset, size)
	})
}

func (c *gatedClient) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return ask(ctx, c.gate, multidbtest.OpWrite, func() (*ltx.FileInfo, error) {
		info, err := c.ReplicaClient.WriteLTXFile(context.Background(), level, minTXID, maxTXID, bytes.NewReader(data))
		c.gate.log("write %d/%d-%d: %v", level, minTXID, maxTXID, err)
		return info, err
	})
}

func (c *gatedClient) DeleteLTXFiles(ctx context.Context, infos []*ltx.FileInfo) error {
	_, err := ask(ctx, c.gate, multidbtest.OpDelete, func() (struct{}, error) {
		err := c.ReplicaClient.DeleteLTXFiles(context.Background(), infos)
		for _, f := range infos {
			c.gate.log("delete %d/%d-%d: %v", f.Level, f.MinTXID, f.MaxTXID, err)
		}
		return struct{}{}, err
	})
	return err
}

func (c *gatedClient) ReadMetadata(ctx context.Context) ([]byte, error) {
	return ask(ctx, c.gate, multidbtest.OpReadMetadata, func() ([]byte, error) {
		return c.ReplicaClient.(multidb.MetadataStore).ReadMetadata(context.Background())
	})
}

func (c *gatedClient) WriteMetadata(ctx context.Context, data []byte) error {
	_, err := ask(ctx, c.gate, multidbtest.OpWriteMetadata, func() (struct{}, error) {
		return struct{}{}, c.ReplicaClient.(multidb.MetadataStore).WriteMetadata(context.Background(), data)
	})
	return err
}
