package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const clusterDoc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template: {type: file, dir: /b, path: \"{{database}}\"}\n"

// clusterOf is what multidb.New makes of a document's cluster.
func clusterOf(t *testing.T, lines string) (*Config, reflect.Value) {
	t.Helper()
	c, err := Parse("m.yaml", []byte(clusterDoc+lines), nil)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c, reflect.ValueOf(m).Elem().FieldByName("cfg")
}

func TestEveryFieldOfClusterConfigHasAKeyThatSetsIt(t *testing.T) {
	for field := range reflect.TypeFor[multidb.ClusterConfig]().Fields() {
		name, text := kebab(field.Name), `"abcd"`
		switch {
		case field.Name == "Membership":
			text = "bucket"
		case field.Name == "URL":
			name, text = "url", `"http://10.0.0.7:8080"`
		case field.Type == reflect.TypeFor[time.Duration]():
			text = "17s"
		case field.Type.Kind() == reflect.Int:
			text = "17"
		}
		_, before := clusterOf(t, "  cluster: {}\n")
		c, after := clusterOf(t, fmt.Sprintf("  cluster: {%s: %s}\n", name, text))
		old, now := before.FieldByName("cluster").Elem(), after.FieldByName("cluster").Elem()
		for other := range old.Type().Fields() {
			a, b := fmt.Sprint(old.FieldByIndex(other.Index)), fmt.Sprint(now.FieldByIndex(other.Index))
			// The bucket is the default, which a Manager has as nil.
			if changed := a != b; changed != (other.Name == field.Name && text != "bucket") {
				t.Errorf("%s: %s is %s, was %s", name, other.Name, b, a)
			}
		}
		if got := reflect.ValueOf(*c.Cluster()).FieldByIndex(field.Index); text != "bucket" && got.IsZero() {
			t.Errorf("%s: the configuration does not say what it is", name)
		}
	}
}

func TestAClusterImpliesAFleetLogAndBringsWhatIsMissing(t *testing.T) {
	c, cfg := clusterOf(t, "  cluster: {node: a}\n")
	if c.FleetLog() != "fleet" || cfg.FieldByName("fleetLog").Elem().FieldByName("Path").String() != "fleet" || !cfg.FieldByName("restoreOpen").Bool() {
		t.Errorf("fleet log %q, %v", c.FleetLog(), cfg.FieldByName("restoreOpen"))
	}
	if want := "m.yaml: /data/{{database}}.db to directory /b, by the fleet log fleet, as node a"; c.String() != want {
		t.Errorf("%q, want %q", c.String(), want)
	}
	if c, cfg = clusterOf(t, "  cluster: {node: a}\n  fleet-log: {path: logs}\n"); c.FleetLog() != "logs" || cfg.FieldByName("fleetLog").Elem().FieldByName("Path").String() != "logs" {
		t.Errorf("fleet log %q", c.FleetLog())
	}
	if c, cfg = clusterOf(t, ""); c.Cluster() != nil || !cfg.FieldByName("cluster").IsNil() || c.FleetLog() != "" {
		t.Error("a cluster that nobody asked for")
	}
}

func TestANodeWithoutANameIsCalledAsItsHost(t *testing.T) {
	for host, want := range map[string]string{"app-3": "app-3", "app-3.example.com": "app-3", "10": "10"} {
		if got, err := nodeOf(host, nil); got != want || err != nil {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	for _, host := range []string{"", ".example.com", "-app", "büro", strings.Repeat("a", 64)} {
		if got, err := nodeOf(host, nil); err == nil || !strings.Contains(err.Error(), "it is missing, and the host's name") {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	if _, err := nodeOf("", os.ErrPermission); !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want, err := nodeOf(host, nil)
	if err != nil {
		t.Skipf("this host is called %q, which is no name of a node", host)
	}
	if c, _ := clusterOf(t, "  cluster: {}\n"); c.Cluster().Node != want {
		t.Errorf("node %q, want %q", c.Cluster().Node, want)
	}
}

func TestAClusterThatMakesNoSenseIsRefusedAtItsPlace(t *testing.T) {
	for lines, says := range map[string]string{
		"cluster: {node: \"-a\"}":                      `m.yaml:4:19: multi-db.cluster.node: "-a" is no name of a node`,
		"cluster: {node: a/b}":                         `m.yaml:4:19: multi-db.cluster.node: "a/b" is no name of a node`,
		"cluster: {node: a, url: 10.0.0.7}":            `m.yaml:4:27: multi-db.cluster.url: "10.0.0.7" is no URL of a node; want one such as "http://10.0.0.7:8080"`,
		"cluster: {node: a, url: ftp://h}":             "multi-db.cluster.url",
		"cluster: {node: a, membership: etcd}":         "multi-db.cluster.membership",
		"cluster: {node: a, heartbeat: 3}":             "multi-db.cluster.heartbeat: 3 has no unit",
		"cluster: {node: a, heartbeat: 0}":             "multi-db.cluster.heartbeat: 0 is not above zero",
		"cluster: {node: a, move-timeout: -1s}":        "multi-db.cluster.move-timeout",
		"cluster: {node: a, strict-ownership: 3s}":     "m.yaml:4:22: multi-db.cluster.strict-ownership: 3s is no more than the heartbeat of 3s",
		"cluster: {node: a, max-moves: 1025}":          "multi-db.cluster.max-moves",
		"cluster: {node: a, nodes: 3}":                 `unknown key "nodes"; did you mean node?`,
		"cluster: 5":                                   "multi-db.cluster: want keys",
		"cluster:":                                     "multi-db.cluster: nothing stands under it",
		"restore-on-open: false\n  cluster: {node: a}": "m.yaml:4:3: multi-db.restore-on-open: it cannot be false",
	} {
		if _, err := Parse("m.yaml", []byte(clusterDoc+"  "+lines+"\n"), nil); err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("%s: %v, want %s", lines, err, says)
		}
	}
	none := strings.Replace(clusterDoc, "{type: file, dir: /b, path: \"{{database}}\"}", "{type: none}", 1) + "  cluster: {node: a}\n"
	if _, err := Parse("m.yaml", []byte(none), nil); err == nil || !strings.Contains(err.Error(), "multi-db.cluster: cluster: there is no replica") {
		t.Errorf("a cluster without a replica: %v", err)
	}
}
