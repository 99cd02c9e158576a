package multidbhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// evilNodes are nodes that call themselves what nobody should.
func evilNodes() *nodesView {
	s := &Server{nodes: func() multidb.ClusterStatus { return cluster(evil) }}
	return s.nodesView()
}

// cluster is what a node knows, with every kind of node.
func cluster(name string) multidb.ClusterStatus {
	node := func(name string, shards int, more func(*multidb.NodeStatus)) multidb.NodeStatus {
		n := multidb.NodeStatus{Member: multidb.Member{Name: name, URL: "http://user:pass@" + name, Life: "0f", Version: name}, Alive: true, Epoch: 7, Shards: shards}
		more(&n)
		return n
	}
	return multidb.ClusterStatus{
		Map: 12, MapMade: noon, Free: 24, Served: 400, Expected: 500, Moving: 16, Moves: 1234, Gains: 5, TakeOvers: 3, Stuck: 2,
		LastMove: 20 * time.Millisecond, WorstMove: 1700 * time.Millisecond, Err: errors.New("fenced by s3cret-token, " + name),
		Nodes: []multidb.NodeStatus{
			node("a"+name, 500, func(n *multidb.NodeStatus) { n.Self = true }),
			node("b", 300, func(n *multidb.NodeStatus) { n.Draining = true }),
			node("b", 0, func(n *multidb.NodeStatus) { n.Alive, n.Ended, n.Life = false, true, "0e" }),
			node("c", 200, func(n *multidb.NodeStatus) { n.Alive, n.URL, n.Epoch = false, "javascript:alert(1)", 0 }),
		},
	}
}

func TestTheNodesAreToldAndShown(t *testing.T) {
	s := newServer(t, unstarted(t), Options{Authenticated: true, Token: "s3cret-token-of-some-length"})
	s.nodes = func() multidb.ClusterStatus { return cluster("") }
	w := ask(t, s, "GET", "/api/v1/nodes")
	var got nodesJSON
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	got.At = time.Time{}
	want := nodesJSON{Node: "a", Map: 12, MapMade: noon, Free: 24, Served: 400, Expected: 500, Moving: 16, Moves: 1234, Gains: 5, TakeOvers: 3, Stuck: 2,
		LastMove: 20 * time.Millisecond, WorstMove: 1700 * time.Millisecond, Error: "fenced by s3cret-token, ", Nodes: []nodeJSON{
			{Name: "a", URL: "http://***@a", Version: "a", Life: "0f", Self: true, Alive: true, Epoch: 7, Shards: 500},
			{Name: "b", URL: "http://***@b", Version: "b", Life: "0f", Alive: true, Draining: true, Epoch: 7, Shards: 300},
			{Name: "b", URL: "http://***@b", Version: "b", Life: "0e", Epoch: 7, Ended: true},
			{Name: "c", URL: "javascript:alert(1)", Version: "c", Life: "0f", Dead: true, Shards: 200},
		}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	text := ask(t, s, "GET", "/").Body.String()
	section := regexp.MustCompile(`(?s)<section class="card" id="live-nodes".*?</section>`).FindString(text)
	for _, want := range []string{"2 nodes, 1 dead", "This node does not take part: fenced by", "this one", `state good">Alive`, `state warn">Draining`, `state plain">Gone`, `state bad">Dead`,
		`state bad">24<`, "500 are to be, 16 moving away", "1,234 away", "1.7 seconds", "the last 20 milliseconds", `width="300" height="1"`, "http://***@a", "none yet"} {
		if !strings.Contains(section, want) {
			t.Errorf("the page lacks %q:\n%s", want, section)
		}
	}
	if strings.Contains(section, "href") {
		t.Error("an address of another machine is a link")
	}
}

func TestWithoutAClusterThePageHasNoNodes(t *testing.T) {
	s := newSite(t, []multidb.ID{"a/b"}, nil)
	if e := read[errorJSON](s, "/api/v1/nodes", 404); !strings.Contains(e.Error, "no node of a cluster") {
		t.Errorf("%q", e.Error)
	}
	if text := s.get("/").body; strings.Contains(text, "shards") || !strings.Contains(text, `<section id="live-nodes" data-live hidden></section>`) {
		t.Error("the page has nodes")
	}
}

func TestADatabaseOfAnotherNodeIsSaidToBeThere(t *testing.T) {
	replica, members := multidbtest.NewReplica(), multidbtest.NewMembership()
	managers := map[string]*multidb.Manager{}
	for _, name := range []string{"a", "b"} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		managers[name] = newManager(t, replica.View(), root, multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "data", "{{database}}.db"))),
			multidb.WithCluster(multidb.ClusterConfig{Node: name, URL: "http://" + name + ".test", Membership: members, Heartbeat: 50 * time.Millisecond}))
	}
	a := managers["a"]
	elsewhere := func() (id multidb.ID) {
		for i := range 1000 {
			id := multidb.ID(fmt.Sprint("tenant", i))
			if o, err := a.Owner(t.Context(), id); err == nil && o.Node == "b" {
				return id
			}
		}
		return ""
	}
	late, id := time.After(time.Minute), multidb.ID("")
	for id == "" {
		select {
		case <-time.After(20 * time.Millisecond):
			id = elsewhere()
		case <-late:
			t.Fatalf("b has nothing: %+v", a.Nodes())
		}
	}
	s := newServer(t, a, Options{Authenticated: true, Verbs: Verbs(), RestoreDir: t.TempDir()})
	w := ask(t, s, "GET", "/api/v1/database?id="+string(id))
	if want := `served by node \"b\", http://b.test`; w.Code != http.StatusMisdirectedRequest || !strings.Contains(w.Body.String(), want) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/database?id="+string(id)); w.Code != 404 || !strings.Contains(w.Body.String(), "served by node &#34;b&#34;") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/"); !strings.Contains(w.Body.String(), "2 nodes</h2>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
