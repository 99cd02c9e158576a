package multidbhttp

import (
	"net/http"
	"slices"
	"time"

	"github.com/multidb-go/multidb"
)

// nodesJSON has the names of `multidb nodes -json`.
type nodesJSON struct {
	At        time.Time     `json:"at"`
	Node      string        `json:"node,omitempty"`
	Map       uint64        `json:"map"`
	MapMade   time.Time     `json:"map_made,omitzero"`
	Free      int           `json:"free_shards"`
	Served    int           `json:"served_shards"`
	Expected  int           `json:"expected_shards"`
	Moving    int           `json:"moving_shards"`
	Moves     int64         `json:"moves"`
	Gains     int64         `json:"gains"`
	TakeOvers int64         `json:"takeovers"`
	Stuck     int64         `json:"stuck"`
	LastMove  time.Duration `json:"last_move_ns"`
	WorstMove time.Duration `json:"worst_move_ns"`
	Error     string        `json:"error,omitempty"`
	Nodes     []nodeJSON    `json:"nodes"`
}

type nodeJSON struct {
	Name     string `json:"name"`
	URL      string `json:"url,omitempty"`
	Version  string `json:"version,omitempty"`
	Life     string `json:"life"`
	Self     bool   `json:"self"`
	Alive    bool   `json:"alive"`
	Draining bool   `json:"draining"`
	Dead     bool   `json:"dead"`
	Epoch    uint64 `json:"epoch"`
	Shards   int    `json:"shards"`
	Ended    bool   `json:"ended"`
}

// inCluster reports whether there is anything to tell: before it is started, a node knows
// as little as a Manager that is none.
func inCluster(c *multidb.ClusterStatus) bool { return len(c.Nodes) > 0 || c.Map > 0 }

// apiNodes is GET /api/v1/nodes.
func (s *Server) apiNodes(w http.ResponseWriter, _ *http.Request) {
	c := s.nodes()
	if !inCluster(&c) {
		writeError(w, http.StatusNotFound, "this is no node of a cluster, or it has not joined yet")
		return
	}
	j := nodesJSON{
		At: time.Now(), Map: c.Map, MapMade: c.MapMade, Free: c.Free, Served: c.Served, Expected: c.Expected, Moving: c.Moving,
		Moves: c.Moves, Gains: c.Gains, TakeOvers: c.TakeOvers, Stuck: c.Stuck, LastMove: c.LastMove, WorstMove: c.WorstMove,
		Error: s.cleanErr(c.Err), Nodes: []nodeJSON{},
	}
	dead := c.Dead()
	for _, n := range c.Nodes {
		if n.Self {
			j.Node = n.Name
		}
		j.Nodes = append(j.Nodes, nodeJSON{
			Name: n.Name, URL: s.clean(n.URL), Version: n.Version, Life: n.Life, Self: n.Self, Alive: n.Alive, Draining: n.Draining,
			Dead: slices.Contains(dead, n), Epoch: n.Epoch, Shards: n.Shards, Ended: n.Ended,
		})
	}
	writeJSON(w, http.StatusOK, j)
}

// nodesView is the cluster, as this node sees it.
type nodesView struct {
	multidb.ClusterStatus
	Rows   []nodeRow // by name
	Alive  int
	Dead   int
	Most   int // shards of one node, at least 1
	Fenced string
}

// nodeRow is a node in the table. Its texts come from another machine.
type nodeRow struct {
	Name, URL, Version string
	State              condition
	Self               bool
	Epoch              uint64
	Shards             int
}

// nodesView returns nil where there is no cluster.
func (s *Server) nodesView() *nodesView {
	v := &nodesView{ClusterStatus: s.nodes(), Most: 1}
	if !inCluster(&v.ClusterStatus) {
		return nil
	}
	v.Fenced = s.cleanErr(v.Err)
	dead := v.ClusterStatus.Dead()
	v.Dead = len(dead)
	for _, n := range v.Nodes {
		row := nodeRow{Name: n.Name, URL: s.clean(n.URL), Version: n.Version, Self: n.Self, Epoch: n.Epoch, Shards: n.Shards}
		switch {
		case slices.Contains(dead, n):
			row.State = condition{"bad", "Dead"}
		case !n.Alive:
			row.State = condition{"plain", "Gone"}
		case n.Draining:
			row.State = condition{"warn", "Draining"}
		default:
			row.State = condition{"good", "Alive"}
		}
		if n.Alive {
			v.Alive++
		}
		v.Most = max(v.Most, n.Shards)
		v.Rows = append(v.Rows, row)
	}
	return v
}
