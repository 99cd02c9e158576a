package multidbprom

import (
	"github.com/multidb-go/multidb"
	"github.com/prometheus/client_golang/prometheus"
)

// NodesSource is an optional interface of a Source, which a *multidb.Manager has: without it, and
// without WithCluster, there are no metrics of nodes.
type NodesSource interface {
	Nodes() multidb.ClusterStatus
}

// ofCluster is a metric of what a node knows of its cluster.
type ofCluster struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string
	values func(multidb.ClusterStatus) []float64
}

// nodes returns what is known of the cluster; false: this is no node, or not yet.
func (c *collector) nodes() (s multidb.ClusterStatus, ok bool) {
	if n, is := c.source.(NodesSource); is {
		s = n.Nodes()
	}
	return s, len(s.Nodes) > 0 || s.Map > 0
}

func (c *collector) collectCluster(ch chan<- prometheus.Metric) {
	s, ok := c.nodes()
	if !ok {
		return
	}
	for _, m := range c.cluster {
		for i, v := range m.values(s) {
			var labels []string
			if m.labels != nil {
				labels = m.labels[i : i+1]
			}
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
		}
	}
}

func clusterMetrics() []ofCluster {
	one := func(kind prometheus.ValueType, name, help string, value func(multidb.ClusterStatus) float64) ofCluster {
		return ofCluster{desc: prometheus.NewDesc("multidb_cluster_"+name, help, nil, nil), kind: kind,
			values: func(s multidb.ClusterStatus) []float64 { return []float64{value(s)} }}
	}
	gauge := func(name, help string, value func(multidb.ClusterStatus) float64) ofCluster {
		return one(prometheus.GaugeValue, name, help, value)
	}
	counter := func(name, help string, value func(multidb.ClusterStatus) int64) ofCluster {
		return one(prometheus.CounterValue, name, help, func(s multidb.ClusterStatus) float64 { return float64(value(s)) })
	}
	return []ofCluster{
		{
			desc: prometheus.NewDesc("multidb_cluster_nodes", "Nodes of the cluster now, as this one sees them: alive, draining (alive, and giving away what it has) or dead (shards, or an open log, are still its own).", []string{"state"}, nil),
			kind: prometheus.GaugeValue, labels: []string{"alive", "draining", "dead"}, values: nodesByState,
		},
		gauge("owned_shards", "Shards of 1,024 that this node owns now, by the map.", func(s multidb.ClusterStatus) float64 {
			n := 0
			for _, node := range s.Nodes {
				if node.Self {
					n += node.Shards
				}
			}
			return float64(n)
		}),
		gauge("served_shards", "Shards that this node serves now.", func(s multidb.ClusterStatus) float64 { return float64(s.Served) }),
		gauge("expected_shards", "Shards that this node is to have once all is in its place.", func(s multidb.ClusterStatus) float64 { return float64(s.Expected) }),
		gauge("moving_shards", "Shards that this node is giving away right now.", func(s multidb.ClusterStatus) float64 { return float64(s.Moving) }),
		gauge("free_shards", "Shards that nobody owns now, as this node sees it: their databases are served by nobody.", func(s multidb.ClusterStatus) float64 { return float64(s.Free) }),
		counter("moves_total", "Shards that this node gave to others.", func(s multidb.ClusterStatus) int64 { return s.Moves }),
		counter("gains_total", "Shards that this node took in.", func(s multidb.ClusterStatus) int64 { return s.Gains }),
		counter("takeovers_total", "Logs of other nodes that this one has ended.", func(s multidb.ClusterStatus) int64 { return s.TakeOvers }),
		counter("stuck_moves_total", "Attempts to give shards away that were put off, as handles were held.", func(s multidb.ClusterStatus) int64 { return s.Stuck }),
		gauge("last_move_seconds", "For how long the shards that this node gave away last were served by nobody; 0 if it gave none.", func(s multidb.ClusterStatus) float64 { return s.LastMove.Seconds() }),
		gauge("worst_move_seconds", "The longest time that shards which this node gave away were served by nobody, since the process began.", func(s multidb.ClusterStatus) float64 { return s.WorstMove.Seconds() }),
		gauge("map_number", "Number of the newest map of who owns what that this node has read.", func(s multidb.ClusterStatus) float64 { return float64(s.Map) }),
		gauge("failing", "1 if this node does not take part now: it is fenced, or cannot ask the others; else 0.", func(s multidb.ClusterStatus) float64 {
			if s.Err != nil {
				return 1
			}
			return 0
		}),
	}
}

func nodesByState(s multidb.ClusterStatus) []float64 {
	n := []float64{0, 0, float64(len(s.Dead()))}
	for _, node := range s.Nodes {
		switch {
		case node.Alive && node.Draining:
			n[1]++
		case node.Alive:
			n[0]++
		}
	}
	return n
}
