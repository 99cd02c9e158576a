//go:build browser

package browser

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbtest"
)

// join starts another node beside a site's.
func join(t *testing.T, s *site, members *multidbtest.Membership, name, url string) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(multidb.WithReplica(s.replica.View()), multidb.WithStateDir(t.TempDir()),
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(t.TempDir(), "{{database}}.db"))), multidb.WithCluster(nodeOf(members, name, url)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func nodeOf(members *multidbtest.Membership, name, url string) multidb.ClusterConfig {
	return multidb.ClusterConfig{Node: name, URL: url, Membership: members, Heartbeat: 100 * time.Millisecond}
}

func TestTheNodesOfAClusterAreSeenAndNothingThatTheySayIsMarkup(t *testing.T) {
	members := multidbtest.NewMembership()
	s := serve(t, multidbhttp.Options{Title: "eu-1"}, nil,
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(t.TempDir(), "{{database}}.db"))), multidb.WithCluster(nodeOf(members, "app-1", "http://10.0.0.7:8080")))
	b := open(t, 1280)
	b.visit(s.url + "/")
	b.want("1 node", "app-1 this one", "1,024", "Shards that nobody has")
	long := "app-2-" + "with-a-name-as-long-as-a-name-of-a-node-may-be-and-not-longer"[:57]
	join(t, s, members, long, `http://10.0.0.8:8080/"><img src=x onerror=alert(1)>/`+"a-path-that-is-longer-than-the-screen-of-a-phone-is-wide")
	third := join(t, s, members, "app-3", "")
	b.until(`document.querySelector("#live-nodes").innerText.includes("3 nodes")`) // by itself, without a reload
	b.want(long, `"><img src=x onerror=alert(1)>`)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := third.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelector("#live-nodes").innerText.includes("Draining")`)
	if n := eval[int](b, `document.querySelectorAll("#live-nodes a, #live-nodes img").length`); n != 0 {
		t.Errorf("%d links or pictures among the nodes", n)
	}
	for _, width := range widths {
		b := open(t, width)
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			b.visit(s.url + "/")
			b.shot(fmt.Sprintf("nodes-%d-%s", width, scheme))
		}
		if wide := eval[int64](b, `document.documentElement.scrollWidth`); wide > width {
			t.Errorf("%d pixels on a screen of %d", wide, width)
		}
	}
}
