package multidbhttp

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The charts are paths in a box that the page stretches, so they have no text: what
// stands beside them is HTML, which keeps its size on a narrow screen.

// rowHeight is that of one row of the heat map, in its own units: a column is 1 wide.
const rowHeight = 10

// chart is the last day, ready to be drawn.
type chart struct {
	Columns  int
	Rows     []heatRow // the longest lags first
	Height   int
	Shades   [5]string // a path for each shade, the lightest first
	Unknown  string    // path of the columns without samples, as high as the highest chart
	Requests bars
	Failing  bars
	Marks    []time.Time // on the axis of time, evenly spaced from its begin to its end
	Hints    []hint      // what the pointer is told, one a column
	Hours    []hour      // the same as a table
	Any      bool        // there was a commit
}

// heatRow is a range of lags. Neighbours are taken together, as fourteen rows are too many
// to be read.
type heatRow struct{ Label string }

// bars is a chart of one number over time.
type bars struct {
	Path string // in a box that is 100 high
	Max  int64
}

type hint struct {
	X    int
	Text string
}

// hour is what a table has instead of the charts.
type hour struct {
	From, To time.Time
	Commits  int64
	P50, P99 time.Duration // the largest of the columns'
	Requests int64
	Dollars  float64
	Unwell   int64 // at most
}

// heatLimits are the upper bounds of the rows; what is above the last is one more.
var heatLimits = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}

var heatLabels = []string{"to 0.1 seconds", "to 0.5 seconds", "to 1 second", "to 5 seconds", "to 30 seconds", "to 5 minutes", "above 5 minutes"}

// shadeLimits are the shares of a column's commits from which each shade on counts.
var shadeLimits = [5]float64{0, 0.01, 0.1, 0.3, 0.6}

func chartOf(h historyView) chart {
	c := chart{Columns: max(1, len(h.Columns)), Height: len(heatLabels) * rowHeight}
	for _, label := range slices.Backward(heatLabels) {
		c.Rows = append(c.Rows, heatRow{label})
	}
	for i := range int64(5) {
		c.Marks = append(c.Marks, h.From.Add(h.To.Sub(h.From)*time.Duration(i)/4))
	}
	var shades [5]strings.Builder
	var unknown strings.Builder
	for x, col := range h.Columns {
		if !col.Known {
			fmt.Fprintf(&unknown, "M%d 0h1v100h-1z", x)
			continue
		}
		c.Any = c.Any || col.Commits > 0
		for row, n := range heatCounts(h.Bounds, col.Lag) {
			if shade := shadeOf(n, col.Commits); shade >= 0 {
				fmt.Fprintf(&shades[shade], "M%d %dh1v%dh-1z", x, c.Height-(row+1)*rowHeight, rowHeight)
			}
		}
		c.Hints = append(c.Hints, hint{x, fmt.Sprintf("%s to %s UTC: %s, half within %s, 99 %% within %s; %s; %s not well",
			clock(col.From), clock(col.To), plural(col.Commits, "commit"), span(col.P50), span(col.P99),
			plural(col.Requests, "request"), plural(unwell(col), "database"))})
		c.tell(col)
	}
	for i := range shades {
		c.Shades[i] = shades[i].String()
	}
	c.Unknown = unknown.String()
	c.Requests = barsOf(h.Columns, func(c historyColumn) int64 { return c.Requests })
	c.Failing = barsOf(h.Columns, unwell)
	slices.Reverse(c.Hours)
	return c
}

func unwell(c historyColumn) int64 { return max(c.UnwellAll, int64(c.Failing+c.Stopped)) }

// tell adds a column to the table.
func (c *chart) tell(col historyColumn) {
	begin := col.From.Truncate(time.Hour)
	if n := len(c.Hours); n == 0 || !c.Hours[n-1].From.Equal(begin) {
		c.Hours = append(c.Hours, hour{From: begin, To: begin.Add(time.Hour)})
	}
	h := &c.Hours[len(c.Hours)-1]
	h.Commits, h.Requests, h.Dollars = h.Commits+col.Commits, h.Requests+col.Requests, h.Dollars+col.Dollars
	h.P50, h.P99, h.Unwell = max(h.P50, col.P50), max(h.P99, col.P99), max(h.Unwell, unwell(col))
}

// heatCounts is a column's commits by row, the shortest lags first.
func heatCounts(bounds []time.Duration, lag []int64) []int64 {
	rows := make([]int64, len(heatLimits)+1)
	for i, n := range lag {
		row := len(heatLimits)
		if i < len(bounds) {
			row, _ = slices.BinarySearch(heatLimits, bounds[i])
		}
		rows[row] += n
	}
	return rows
}

// shadeOf is which shade a share gets; -1: nothing.
func shadeOf(n, of int64) int {
	if n <= 0 || of <= 0 {
		return -1
	}
	shade, share := 0, float64(n)/float64(of)
	for i, from := range shadeLimits {
		if share >= from {
			shade = i
		}
	}
	return shade
}

func barsOf(columns []historyColumn, value func(historyColumn) int64) bars {
	var b bars
	for _, c := range columns {
		b.Max = max(b.Max, value(c))
	}
	var path strings.Builder
	for x, c := range columns {
		if n := value(c); n > 0 {
			top := 100 - max(2, int(n*100/b.Max)) // one of many is still to be seen
			fmt.Fprintf(&path, "M%d.1 100V%dh.8V100z", x, top)
		}
	}
	b.Path = path.String()
	return b
}

// timeline is the restore points of a database, in a box that is 1000 wide and 40 high.
type timeline struct {
	Whole, Changes string // paths
	From, To       time.Time
	Wholes         int
}

func lineOf(points []restorePoint) timeline {
	var l timeline
	for _, p := range points {
		if l.From.IsZero() || p.CreatedAt.Before(l.From) {
			l.From = p.CreatedAt
		}
		if p.CreatedAt.After(l.To) {
			l.To = p.CreatedAt
		}
	}
	var whole, changes strings.Builder
	for _, p := range points {
		x := 998
		if length := l.To.Sub(l.From); length > 0 {
			x = 2 + int(p.CreatedAt.Sub(l.From).Seconds()/length.Seconds()*996)
		}
		if p.Whole {
			l.Wholes++
			fmt.Fprintf(&whole, "M%d 0V40", x)
		} else {
			fmt.Fprintf(&changes, "M%d 22V40", x)
		}
	}
	l.Whole, l.Changes = whole.String(), changes.String()
	return l
}

// tiers is the bar of how many databases are hot, warm and cold, 1000 wide.
type tiers struct{ Hot, Warm, Cold, WarmX, ColdX int }

func tiersOf(hot, warm, cold int) tiers {
	all := hot + warm + cold
	if all == 0 {
		return tiers{}
	}
	share := func(n int) int {
		if n == 0 {
			return 0
		}
		return max(3, n*1000/all) // one of many is still to be seen
	}
	t := tiers{Hot: share(hot), Warm: share(warm)}
	t.WarmX = t.Hot
	t.ColdX = t.Hot + t.Warm
	t.Cold = max(0, 1000-t.ColdX)
	return t
}
