package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/control"
)

// node starts a replicate as a node of a cluster.
func (f *fleet) node(t *testing.T, name, replica string) (cfg string, run *process) {
	t.Helper()
	cfg = f.configure(t, replica)
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "  cluster: {node: %s, url: \"http://%[1]s.test\", heartbeat: 300ms}\n", name)
	if err := os.WriteFile(cfg, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run = invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("msg=replicating")
	return cfg, run
}

// awaitNodes asks a node until what it says is as wanted.
func awaitNodes(t *testing.T, cfg string, want func(control.Cluster) bool) (c control.Cluster) {
	t.Helper()
	for began := time.Now(); time.Since(began) < patience; { // each asks another process
		p := invoke(t, nil, "nodes", "-config", cfg).start()
		code := p.wait()
		last := c
		c = control.Cluster{}
		if err := json.Unmarshal(p.stdout.Bytes(), &c); err != nil {
			t.Fatalf("%v\n%s\n%s\n%+v", err, &p.stdout, &p.stderr, last)
		}
		if well := c.Well(); code != 0 && well || code != exitPartly && !well {
			t.Fatalf("exit code %d: %+v", code, c)
		}
		if want(c) {
			return c
		}
	}
	t.Fatalf("the nodes are not as they are to be: %+v", c)
	return c
}

// living is the process of a node that is alive.
func living(c control.Cluster, name string) control.Node {
	for _, n := range c.Nodes {
		if n.Name == name && n.Alive {
			return n
		}
	}
	return control.Node{}
}

func TestTheNodesAreListedAndOneIsDrainedAndWhoHasADatabaseIsTold(t *testing.T) {
	f, g := newFleet(t, 1, 8), newFleet(t, 0, 0)
	replica := t.TempDir()
	a, runA := f.node(t, "a", replica)
	alone := awaitNodes(t, a, func(c control.Cluster) bool { return c.Served == 1024 })
	if alone.Node != "a" || alone.PID != runA.cmd.Process.Pid || alone.Map == 0 || len(alone.Nodes) != 1 || alone.Nodes[0].URL != "http://a.test" {
		t.Errorf("%+v", alone)
	}
	p := invoke(t, nil, "drain", "-config", a, "-timeout", "500ms").start().want(3, "1024 shards are left, as there is no other node")
	if d := p.records()[0]; d["node"] != "a" || d["left"] != 1024.0 || d["done"] != false || d["late"] != true {
		t.Errorf("%v", d)
	}
	runA.signal(syscall.SIGTERM) // it takes nothing any more
	runA.want(0)
	a, runA = f.node(t, "a", replica)

	b, runB := g.node(t, "b", replica)
	both := awaitNodes(t, a, func(c control.Cluster) bool {
		other := living(c, "b")
		return c.Served == c.Expected && c.Well() && living(c, "a").Shards+other.Shards == 1024 && other.Shards > 300
	})
	if b := living(both, "b"); b.Self || b.Epoch == 0 || b.URL != "http://b.test" || !living(both, "a").Self || both.Moves == 0 {
		t.Errorf("%+v", both)
	}
	if b := living(both, "b"); b.LastObject != 0 && time.Since(b.LastObjectAt) > time.Minute || living(both, "a").LastObject == 0 || both.NoObjects != "" {
		t.Errorf("last objects: %+v", both)
	}
	if out := invoke(t, nil, "nodes", "-config", a, "-json=false").start().want(0).stdout.String(); !strings.Contains(out, "asked            node a, process ") || !strings.Contains(out, "\na (asked)  alive  ") {
		t.Errorf("as a table:\n%s", out)
	}
	if s := one(t, 0, "status", "-config", a); s["node"] != "a" || s["shards"] != float64(both.Served) {
		t.Errorf("status: %v", s)
	}

	var away []string
	for _, id := range f.ids {
		if p := invoke(t, nil, "status", string(id), "-config", a).start(); p.wait() == exitElse {
			away = append(away, string(id))
		}
	}
	if len(away) == 0 || len(away) == len(f.ids) {
		t.Fatalf("%q of %q are at the other node", away, f.ids)
	}
	at := `served by node "b", http://b.test`
	for _, args := range [][]string{{"status", away[0]}, {"ls", away[0]}, {"remove", away[0]}, {"evict", away[0], "-json=false"}, {"handover", away[0]}} {
		p := invoke(t, nil, append(args, "-config", a)...).start().want(exitElse, at)
		if args[0] == "remove" && p.records()[0]["not_owner"] != true {
			t.Errorf("remove: %s", &p.stdout)
		}
	}
	i := slices.IndexFunc(f.ids, func(id multidb.ID) bool { return !slices.Contains(away, string(id)) })
	invoke(t, nil, "evict", away[0], string(f.ids[i]), "-config", a).start().want(exitPartly, at)

	placed := map[string]string{}
	for _, r := range invoke(t, nil, "ls", "-everywhere", "-config", a).start().want(0).records() {
		placed[r["id"].(string)] = r["node"].(string)
	}
	for _, id := range f.ids {
		want := "a"
		if slices.Contains(away, string(id)) {
			want = "b"
		}
		if placed[string(id)] != want {
			t.Errorf("%s is at %q, want %q", id, placed[string(id)], want)
		}
	}
	if len(placed) != len(f.ids) {
		t.Errorf("everywhere: %v", placed)
	}
	if out := invoke(t, nil, "ls", "-everywhere", away[0], "-config", a, "-json=false").start().want(0).stdout.String(); !strings.Contains(out, "b     http://b.test  in service") {
		t.Errorf("everywhere, as a table:\n%s", out)
	}

	p = invoke(t, nil, "drain", "-config", a).start().want(0)
	if d := p.records()[0]; d["done"] != true || d["left"] != 0.0 {
		t.Errorf("%v", d)
	}
	if out := invoke(t, nil, "drain", "-config", a, "-json=false").start().want(0).stdout.String(); out != "node         a\nshards left  0\n" { // again: there is nothing to do
		t.Errorf("drain as a table: %q", out)
	}
	awaitNodes(t, b, func(c control.Cluster) bool {
		return c.Served == 1024 && c.Free == 0 && living(c, "a").Draining && living(c, "a").Shards == 0
	})
	for _, id := range f.ids {
		invoke(t, nil, "status", string(id), "-config", a).start().want(exitElse, at)
	}
	runA.signal(syscall.SIGTERM)
	runA.want(0)
	runB.signal(syscall.SIGTERM)
	runB.want(0)
	invoke(t, nil, "nodes", "-config", b).start().want(1, "no multidb replicate is running")
	invoke(t, nil, "ls", "-everywhere", "-config", b).start().want(2, "none does here")
	invoke(t, nil, "drain", "-config", b).start().want(1, "no multidb replicate is running")
}

func TestAReplicateThatIsNoNodeSaysSo(t *testing.T) {
	cfg := newFleet(t, 1, 1).running(t, "")
	invoke(t, nil, "nodes", "-config", cfg).start().want(1, "is no node of a cluster", "has no cluster")
	invoke(t, nil, "drain", "-config", cfg).start().want(1, "is no node of a cluster", "has no cluster")
	if s := one(t, 0, "status", "-config", cfg); s["node"] != nil {
		t.Errorf("%v", s)
	}
}

func TestANodeThatIsNotWellEndsWithThree(t *testing.T) {
	live := control.Node{Name: "a", Self: true, Alive: true, Epoch: 4, Shards: 1000, URL: "http://a.test"}
	for says, c := range map[string]control.Cluster{
		"alive 1000 4 - http":  {Nodes: []control.Node{live, {Name: "a", Epoch: 2, Ended: true}}},
		"b dead 24 2":          {Nodes: []control.Node{live, {Name: "b", Epoch: 2, Shards: 24, Dead: true}}},
		"4 7, ":                {Nodes: []control.Node{{Name: "c", Epoch: 4, LastObject: 7, LastObjectAt: time.Now()}}, Free: 1},
		"last objects refused": {Nodes: []control.Node{live}, Free: 1, NoObjects: "refused"},
		"; 24 are nobody's":    {Nodes: []control.Node{live}, Free: 24},
		"does not take part fenced by \"another\"": {Nodes: []control.Node{live}, Error: `fenced by "another"`},
		`"b\x1b[2J"`: {Nodes: []control.Node{{Name: "b\x1b[2J"}}, Free: 1},
	} {
		var out bytes.Buffer
		err := showNodes(&env{stdout: &out}, c, false)
		if well := strings.Contains(says, "alive"); errors.Is(err, errPartly) == well || !strings.Contains(strings.Join(strings.Fields(out.String()), " "), says) {
			t.Errorf("%v, without %q:\n%s", err, says, &out)
		}
	}
	for want, n := range map[string]control.Node{
		"alive": {Alive: true}, "draining": {Alive: true, Draining: true}, "dead": {Dead: true},
		"gone, its log has ended": {Ended: true}, "dead, its log has ended": {Dead: true, Ended: true},
	} {
		if got := nodeState(n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
