package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"
)

// ErrNotOwner is returned for a tenant that another node of the cluster serves. Its text says
// which one.
var ErrNotOwner = errors.New("another node serves the database")

// ErrNoCluster is returned where the process is no node of a cluster.
var ErrNoCluster = errors.New("the running replicate is no node of a cluster: its configuration has no cluster")

// Cluster is what the node that is asked knows of the others. Durations are in nanoseconds.
type Cluster struct {
	Node    string    `json:"node"` // who is asked
	PID     int       `json:"pid"`
	Map     uint64    `json:"map"`
	MapMade time.Time `json:"map_made,omitzero"`
	// NoObjects is why the bucket could not say what the newest objects of the logs are.
	NoObjects string `json:"last_objects_error,omitempty"`
	Free      int    `json:"free_shards"`     // that nobody owns
	Served    int    `json:"served_shards"`   // by this node, as are the next ones
	Expected  int    `json:"expected_shards"` // once all is in its place
	Moving    int    `json:"moving_shards"`   // away from it, now

	Moves     int64         `json:"moves"`
	Gains     int64         `json:"gains"`
	TakeOvers int64         `json:"takeovers"`
	Stuck     int64         `json:"stuck"`
	LastMove  time.Duration `json:"last_move_ns"`
	WorstMove time.Duration `json:"worst_move_ns"`

	Error string `json:"error,omitempty"` // why the node does not take part now
	Nodes []Node `json:"nodes"`           // by name
}

// Node is one node of a cluster.
type Node struct {
	Name     string `json:"name"`
	URL      string `json:"url,omitempty"`
	Version  string `json:"version,omitempty"`
	Life     string `json:"life"`
	Self     bool   `json:"self,omitempty"`
	Alive    bool   `json:"alive"`
	Draining bool   `json:"draining,omitempty"`
	Dead     bool   `json:"dead,omitempty"` // it is not alive, and shards or an open log are still its own
	Epoch    uint64 `json:"epoch"`          // 0: it has none yet
	Shards   int    `json:"shards"`
	Ended    bool   `json:"ended,omitempty"` // its log was ended by another node, and is not unpacked yet
	// The newest object of its log, and when the store says that it was written.
	LastObject   uint64    `json:"last_object,omitempty"`
	LastObjectAt time.Time `json:"last_object_at,omitzero"`
}

// Owned is how many shards the node that was asked has by the map.
func (c Cluster) Owned() (shards int) {
	for _, n := range c.Nodes {
		if n.Self {
			shards += n.Shards
		}
	}
	return shards
}

// Well reports whether every shard is at a node that is alive, and the one that is asked
// takes part.
func (c Cluster) Well() bool {
	return c.Error == "" && c.Free == 0 && !slices.ContainsFunc(c.Nodes, func(n Node) bool { return n.Dead })
}

// Drained is how far a draining is. The last one is Done, or has an Error.
type Drained struct {
	Node   string `json:"node"`
	Left   int    `json:"left"`   // shards that it has
	Moving int    `json:"moving"` // of these, right now
	Done   bool   `json:"done"`
	Error  string `json:"error,omitempty"`
	Late   bool   `json:"late,omitempty"` // the error is that the time was up: giving goes on
}

// Clusterer is an optional interface of a Source. Safe for concurrent use.
type Clusterer interface {
	// Nodes returns ErrNoCluster where the process is no node.
	Nodes() (Cluster, error)
	// NodesNow is Nodes with the newest object of each log, which it asks the bucket for.
	NodesNow(ctx context.Context) (Cluster, error)
	// Drain gives everything away, and tells how far it is until that is done, has failed,
	// timeout is over, or ctx has ended. An error of tell says that nobody listens. Giving goes
	// on, also after an error.
	Drain(ctx context.Context, timeout time.Duration, tell func(Drained) error)
	// Everywhere yields the databases of all nodes. After an error it ends.
	Everywhere(ctx context.Context) iter.Seq2[Placed, error]
}

// Placed is a database of a cluster, and which node has it.
type Placed struct {
	ID         string    `json:"id"`
	Node       string    `json:"node,omitempty"` // empty: nobody serves it right now
	URL        string    `json:"url,omitempty"`
	Self       bool      `json:"self,omitempty"` // it is at the node that is asked
	RemovedAt  time.Time `json:"removed_at,omitzero"`
	EraseAfter time.Time `json:"erase_after,omitzero"`
	Error      string    `json:"error,omitempty"` // why the list ends here, without an ID
}

func everywhere(c Clusterer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := c.Nodes(); err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		enc := json.NewEncoder(w)
		for p, err := range c.Everywhere(r.Context()) {
			if err != nil {
				p = Placed{Error: err.Error()}
			}
			if enc.Encode(p) != nil {
				return // the client has gone
			}
		}
	}
}

// Everywhere yields the databases of all nodes. An error is the last pair.
func (c *Client) Everywhere(ctx context.Context) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		res, err := c.get(ctx, "everywhere", nil)
		if err != nil {
			yield(Placed{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		lines(ctx, res.Body, func(p Placed, err error) bool {
			if err == nil && p.Error != "" {
				err = errors.New(p.Error)
			}
			return yield(p, err) && err == nil
		})
	}
}

// draining is the order to drain. After Timeout it is told what is left.
type draining struct {
	Timeout time.Duration `json:"timeout_ns"`
}

func (d draining) check() error {
	if d.Timeout <= 0 {
		return fmt.Errorf("timeout_ns is %d; want a duration above zero", d.Timeout)
	}
	return nil
}

func nodes(c Clusterer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := c.NodesNow(r.Context())
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, v)
	}
}

func drain(c Clusterer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o draining
		if !readOrder(w, r, &o) {
			return
		}
		if _, err := c.Nodes(); err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		tell, ok := stream(w)
		if !ok {
			return
		}
		c.Drain(r.Context(), o.Timeout, func(d Drained) error { return tell(d) })
	}
}

// Nodes asks for the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) (Cluster, error) {
	var v Cluster
	return v, c.one(ctx, "nodes", nil, &v)
}

// Drain has the process give everything to other nodes. It yields how far that is; nothing but
// timeout and ctx bound how long it takes. An error is the last pair.
func (c *Client) Drain(ctx context.Context, timeout time.Duration) iter.Seq2[Drained, error] {
	return func(yield func(Drained, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		res, err := c.order(ctx, "drain", draining{timeout})
		if err != nil {
			yield(Drained{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		lines(ctx, res.Body, yield)
	}
}
