package multidbprom_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/prometheus/client_golang/prometheus"
)

// exported returns the metrics of the collector: type and labels by name.
func exported(t *testing.T) (types map[string]string, labels map[string][]string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(multidbprom.New(&node{nodes: multidb.ClusterStatus{Map: 1}}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types, labels = map[string]string{}, map[string][]string{}
	for _, f := range families {
		if f.GetType().String() == "HISTOGRAM" {
			// What is stored of it, and asked for.
			types[f.GetName()+"_bucket"], labels[f.GetName()+"_bucket"] = "COUNTER", []string{"le"}
			continue
		}
		types[f.GetName()] = f.GetType().String()
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[f.GetName()] = append(labels[f.GetName()], l.GetName())
			}
		}
	}
	return types, labels
}

// queries returns every query of the dashboard, by what it is for.
func queries(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type target struct{ Expr, LegendFormat string }
	var d struct {
		Title      string
		Templating struct {
			List []struct {
				Name       string
				Type       string
				Definition string          // what Grafana shows
				Query      json.RawMessage // what it asks
			}
		}
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []target
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		var q struct{ Query string }
		if err := json.Unmarshal(v.Query, &q); err != nil || q.Query != v.Definition {
			t.Errorf("variable %s asks %q and shows %q: %v", v.Name, q.Query, v.Definition, err)
		}
		all["variable "+v.Name] = append(all["variable "+v.Name], q.Query)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("panel %q has no query", p.Title)
		}
		for _, q := range p.Targets {
			all[p.Title] = append(all[p.Title], q.Expr)
			for _, m := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !strings.Contains(q.Expr, "by ("+m[1]+")") {
					t.Errorf("panel %q: the legend has %s, the query does not keep it", p.Title, m[1])
				}
			}
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d queries found", len(all))
	}
	return all
}

var (
	legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	metricName  = regexp.MustCompile(`\b[a-z]\w*\b`)
	selector    = regexp.MustCompile(`\{[^}]*\}`)
	matcher     = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	grouping    = regexp.MustCompile(`\b(?:by|without) \((\w+)\) \((?:\w+\()?(multidb_\w+)`)
	ranged      = regexp.MustCompile(`(\w+)\((multidb_\w+)\{[^}]*\}\[(?:1h|\$__rate_interval)\]\)`)
	anyRange    = regexp.MustCompile(`\[[^\]]*\]`)
)

// What Prometheus itself adds to every series of a scrape.
var targetLabels = []string{"job", "instance"}

func TestTheDashboardAsksOnlyForWhatIsExported(t *testing.T) {
	types, labels := exported(t)
	used := map[string]bool{}
	for panel, exprs := range queries(t) {
		for _, expr := range exprs {
			bare := anyRange.ReplaceAllString(selector.ReplaceAllString(expr, ""), "")
			for _, word := range metricName.FindAllString(bare, -1) {
				switch {
				case types[word] != "":
					used[word] = true
				case slices.Contains([]string{"sum", "max", "min", "rate", "increase", "by", "label_values", "job", "instance", "kind", "tier", "direction", "reason", "outcome", "state", "verb", "version", "le", "histogram_quantile"}, word):
				default:
					t.Errorf("%s: %s is neither a metric of the collector nor a function: %s", panel, word, expr)
				}
			}
			for _, s := range selector.FindAllString(expr, -1) {
				matchers := matcher.FindAllStringSubmatch(s, -1)
				if len(matchers) == 0 {
					t.Errorf("%s: no matcher in %s", panel, s)
				}
				for _, m := range matchers {
					if !slices.Contains(targetLabels, m[1]) {
						t.Errorf("%s: matches the label %s: %s", panel, m[1], expr)
					}
				}
			}
			for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
				if !slices.Contains(labels[m[2]], m[1]) && !slices.Contains(targetLabels, m[1]) {
					t.Errorf("%s: %s has no label %s", panel, m[2], m[1])
				}
			}
			if strings.Count(expr, " by (") != len(grouping.FindAllString(expr, -1)) {
				t.Errorf("%s: a grouping that this test cannot read: %s", panel, expr)
			}
		}
	}
	for name := range types {
		if !used[name] {
			t.Errorf("%s is not on the dashboard", name)
		}
	}
}

func TestTheDashboardTakesRatesOfCountersAndOnlyOfThem(t *testing.T) {
	types, _ := exported(t)
	for panel, exprs := range queries(t) {
		for _, expr := range exprs {
			if strings.HasPrefix(expr, "label_values(") {
				continue
			}
			rated := map[string]int{}
			for _, m := range ranged.FindAllStringSubmatch(expr, -1) {
				if m[1] != "rate" && m[1] != "increase" {
					t.Errorf("%s: %s over a range: %s", panel, m[1], expr)
				}
				rated[m[2]]++
			}
			if len(anyRange.FindAllString(expr, -1)) != len(ranged.FindAllString(expr, -1)) {
				t.Errorf("%s: a range that this test cannot read: %s", panel, expr)
			}
			for name, kind := range types {
				n := len(regexp.MustCompile(`\b`+name+`\b`).FindAllString(expr, -1))
				if kind == "COUNTER" && n != rated[name] || kind != "COUNTER" && rated[name] > 0 {
					t.Errorf("%s: %s is a %s: %s", panel, name, kind, expr)
				}
			}
		}
	}
}

func TestTheQueriesOfTheDashboardAreWellFormed(t *testing.T) {
	closing := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for panel, exprs := range queries(t) {
		for _, expr := range exprs {
			var open []rune
			quoted := false
			for _, r := range expr {
				switch {
				case r == '"':
					quoted = !quoted
				case quoted:
				case strings.ContainsRune("([{", r):
					open = append(open, r)
				case closing[r] != 0:
					if len(open) == 0 || open[len(open)-1] != closing[r] {
						t.Fatalf("%s: %q closes nothing: %s", panel, r, expr)
					}
					open = open[:len(open)-1]
				}
			}
			if quoted || len(open) > 0 {
				t.Errorf("%s: left open: %s", panel, expr)
			}
		}
	}
}
