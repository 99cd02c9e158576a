package multidbprom_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// node is a source that is a node of a cluster.
type node struct {
	source
	nodes multidb.ClusterStatus
}

func (n *node) Nodes() multidb.ClusterStatus { return n.nodes }

// busy has another value in each field that a metric is made of.
func busy() multidb.ClusterStatus {
	peer := func(name string, shards int, alive, draining bool) multidb.NodeStatus {
		return multidb.NodeStatus{Member: multidb.Member{Name: name, Life: name, Draining: draining}, Alive: alive, Shards: shards, Epoch: 1}
	}
	s := multidb.ClusterStatus{
		Map: 31, MapMade: time.Unix(1, 0), Free: 32, Served: 33, Moving: 34, Expected: 35,
		Moves: 36, Gains: 37, TakeOvers: 38, Stuck: 39, LastMove: 1500 * time.Millisecond, WorstMove: 41 * time.Second, Err: errors.New("fenced"),
		Nodes: []multidb.NodeStatus{peer("a", 42, true, false), peer("b", 50, true, true), peer("b", 7, false, false), peer("c", 9, false, false), peer("d", 0, false, false), peer("e", 1, true, false)},
	}
	s.Nodes[0].Self = true
	return s
}

func TestTheMetricsOfTheNodesAreUnderTheirNames(t *testing.T) {
	want := map[string]float64{
		"nodes{alive}": 2, "nodes{draining}": 1, "nodes{dead}": 2,
		"owned_shards": 42, "served_shards": 33, "expected_shards": 35, "moving_shards": 34, "free_shards": 32,
		"moves_total": 36, "gains_total": 37, "takeovers_total": 38, "stuck_moves_total": 39,
		"last_move_seconds": 1.5, "worst_move_seconds": 41, "map_number": 31, "failing": 1,
	}
	got := clusterValues(t, &node{nodes: busy()})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	well := busy()
	well.Err = nil
	if got := clusterValues(t, &node{nodes: well})["failing"]; got != 0 {
		t.Errorf("failing is %v", got)
	}
	problems, err := testutil.CollectAndLint(multidbprom.New(&node{nodes: busy()}))
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// clusterValues are the metrics of the cluster, by their names and labels.
func clusterValues(t *testing.T, s multidbprom.Source) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(multidbprom.New(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "multidb_cluster_")
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += "{" + l.GetValue() + "}"
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func TestWithoutAClusterThereIsNoMetricOfOne(t *testing.T) {
	alone, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(t.TempDir() + "/{{database}}.db")))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]multidbprom.Source{"a Manager": alone, "no node": &node{}, "another source": &source{}} {
		if got := clusterValues(t, s); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheNumberOfSeriesDoesNotDependOnTheNumberOfNodes(t *testing.T) {
	few := testutil.CollectAndCount(multidbprom.New(&node{nodes: busy()}))
	s := busy()
	for range 6 {
		s.Nodes = append(s.Nodes, s.Nodes...)
	}
	if many := testutil.CollectAndCount(multidbprom.New(&node{nodes: s})); few != many || many > 150 {
		t.Errorf("%d series for %d nodes, %d for %d", few, len(busy().Nodes), many, len(s.Nodes))
	}
}
