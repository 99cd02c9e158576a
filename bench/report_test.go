package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
)

func testMeasured(r row) measured {
	return measured{
		scenario:  scenario{sizes: []int{1000, 10000}, rows: []row{r}},
		multidb:   map[int][]figures{1000: {{"a": 2}, {"a": 4}, {"a": 3}}, 10000: {{"a": 5}}},
		stock:     []figures{{"b": 30}},
		stockSize: 1000,
	}
}

func TestALineHasTheMedianTheRangeAndStocksFigureByProportion(t *testing.T) {
	m := testMeasured(row{key: "a", stock: "b", scales: true, bar: bar{kind: atMost, limit: 4, text: "4"}})
	got := m.lines()
	want := []line{
		{n: "1,000", multidb: "3 (2 – 4)", stock: "30", ratio: "10 ×", bar: "4", verdict: "met"},
		{n: "10,000", multidb: "5", stock: "300 (from 1,000)", ratio: "60 ×", bar: "4", verdict: "MISSED"},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d:\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
}

func TestABarIsMetOrMissed(t *testing.T) {
	for _, c := range []struct {
		bar  bar
		more bool
		want string
	}{
		{bar{}, false, ""},
		{bar{kind: atMost, limit: 3}, false, "met"},
		{bar{kind: atMost, limit: 2.9}, false, "MISSED"},
		{bar{kind: atLeast, limit: 3}, false, "met"},
		{bar{kind: atLeast, limit: 3.1}, false, "MISSED"},
		{bar{kind: atMost, limit: 3, times: 10}, false, "met"},
		{bar{kind: atMost, limit: 3, times: 10.1}, false, "MISSED"},
		{bar{kind: atMost, limit: 3, times: 1}, true, "MISSED"}, // stock has more
		{bar{kind: flat, limit: 2}, false, "met"},
		{bar{kind: flat, limit: 1}, false, "MISSED"},
	} {
		m := testMeasured(row{key: "a", stock: "b", bar: c.bar, more: c.more})
		if got := m.lines()[0].verdict; got != c.want {
			t.Errorf("%+v: %q, want %q", c.bar, got, c.want)
		}
	}
}

func TestWhatStockWasNotAskedMeetsNoBarOfARatio(t *testing.T) {
	m := testMeasured(row{key: "a", bar: bar{kind: atMost, limit: 3, times: 1}})
	if got := m.lines()[0].verdict; got != "MISSED" {
		t.Errorf("%q", got)
	}
}

func TestFiguresAreWrittenInUnitsThatFit(t *testing.T) {
	for _, c := range []struct {
		u    unit
		v    float64
		want string
	}{
		{inSeconds, 0, "0 s"}, {inSeconds, 480e-9, "480 ns"}, {inSeconds, 150e-6, "150 µs"}, {inSeconds, 1.5, "1.50 s"},
		{inSeconds, 60000, "16.7 h"}, {inBytes, 700, "700 B"}, {inBytes, 16384, "16.4 KB"}, {inBytes, 150e6, "150 MB"},
		{percent, 0.0025, "0.25 %"}, {perSecond, 5123.4, "5,123/s"}, {count, 100000, "100,000"}, {count, 2.29, "2.29"},
		{plain, 0.987, "0.99"},
	} {
		if got := c.u.format(c.v); got != c.want {
			t.Errorf("unit %d of %v is %q, want %q", c.u, c.v, got, c.want)
		}
	}
}

func TestTheTableTakesThePlaceBetweenTheMarkersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeBetweenMarkers(path, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if want := "before\n" + beginMark + "\n\nnew\n\n" + endMark + "\nafter\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v; want %q", b, err, want)
	}
	if err := os.WriteFile(path, []byte(endMark+beginMark), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkMarkers(path); err == nil || !strings.Contains(err.Error(), beginMark) {
		t.Errorf("markers the wrong way round: %v", err)
	}
}

func TestTheQuantileOfFewIsOneOfThem(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0.5: 3, 0.99: 5, 0.2: 1, 0.21: 2, 1: 5} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v", got)
	}
}

func TestTheDatabasesThatCloseNamesAreCountedOnce(t *testing.T) {
	named := func(id multidb.ID) error {
		return &multidb.Error{Op: "close", ID: id, Err: fmt.Errorf("%w: down", multidb.ErrNotDurable)}
	}
	err := fmt.Errorf("close: %w", errors.Join(named("a"), errors.Join(named("b"), named("a")),
		&multidb.Error{Op: "close", ID: "c", Err: errors.New("something else")}))
	if got := notDurable(err, map[multidb.ID]bool{}); len(got) != 2 || !got["a"] || !got["b"] {
		t.Errorf("%v", got)
	}
}

func TestEveryScenarioHasANameOfItsOwnAndSomethingToMeasure(t *testing.T) {
	for _, short := range []bool{false, true} {
		seen := map[string]bool{}
		for _, sc := range scenarios(short) {
			if seen[sc.name] || sc.title == "" || len(sc.sizes) == 0 || len(sc.rows) == 0 || sc.multidb == nil {
				t.Errorf("scenario %q", sc.name)
			}
			seen[sc.name] = true
			keys := map[string]bool{}
			for _, r := range sc.rows {
				if keys[r.key] || r.what == "" || r.stock != "" && sc.stock == nil || r.bar.kind != noBar && r.bar.text == "" {
					t.Errorf("scenario %q, row %q", sc.name, r.key)
				}
				keys[r.key] = true
			}
		}
	}
}
