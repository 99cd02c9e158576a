package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// result is everything that was measured.
type result struct {
	machine, versions string
	began             time.Time
	took              time.Duration
	short             bool
	runs              int
	ram               bool
	all               []measured
}

// measured is one scenario's share, a figures for each repetition.
type measured struct {
	scenario
	multidb   map[int][]figures // by number of databases
	stock     []figures
	stockSize int
}

// line is one line of the table.
type line struct {
	what, n, multidb, stock, ratio, bar, verdict string
}

// spread is what the repetitions gave for one figure.
type spread struct{ median, min, max float64 }

func spreadOf(runs []figures, key string) (spread, bool) {
	var v []float64
	for _, f := range runs {
		if x, ok := f[key]; ok {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return spread{}, false
	}
	return spread{median: median(v), min: slices.Min(v), max: slices.Max(v)}, true
}

// scaled is the spread for other numbers of databases, by proportion.
func (s spread) scaled(by float64) spread { return spread{s.median * by, s.min * by, s.max * by} }

// lines are those of a scenario: each row at each size.
func (m measured) lines() []line {
	var out []line
	for _, r := range m.rows {
		for _, n := range m.sizes {
			if l, ok := m.line(r, n); ok {
				out = append(out, l)
			}
		}
	}
	return out
}

func (m measured) line(r row, n int) (line, bool) {
	l := line{what: r.what, n: number(float64(n)), multidb: "not measured", bar: r.bar.text}
	ours, measured := spreadOf(m.multidb[n], r.key)
	if measured {
		l.multidb = r.unit.spread(ours)
	}
	theirs, comparable := spreadOf(m.stock, r.stock)
	ratio := math.NaN()
	if comparable {
		mark := ""
		if n != m.stockSize && r.scales {
			theirs = theirs.scaled(float64(n) / float64(m.stockSize))
			mark = fmt.Sprintf(" (from %s)", number(float64(m.stockSize)))
		}
		l.stock = r.unit.format(theirs.median) + mark
		if measured {
			ratio = better(ours.median, theirs.median, r.more)
			l.ratio = times(ratio)
		}
	}
	if measured {
		l.verdict = m.verdict(r, ours, ratio)
	}
	return l, measured || comparable
}

// verdict says whether the bar is met by the median.
func (m measured) verdict(r row, ours spread, ratio float64) string {
	met := true
	switch r.bar.kind {
	case noBar:
		return ""
	case atMost:
		met = ours.median <= r.bar.limit
	case atLeast:
		met = ours.median >= r.bar.limit
	case flat:
		if len(m.sizes) < 2 {
			return ""
		}
		var all []float64
		for _, n := range m.sizes {
			if s, ok := spreadOf(m.multidb[n], r.key); ok {
				all = append(all, s.median)
			}
		}
		met = slices.Max(all)-slices.Min(all) <= r.bar.limit
	}
	if r.bar.times > 0 && !(ratio >= r.bar.times) { // nor is an unknown one enough
		met = false
	}
	if met {
		return "met"
	}
	return "MISSED"
}

// better is how many times. A figure of nothing, or less by what measuring
// misses, is better without bound than something.
func better(ours, theirs float64, more bool) float64 {
	if more {
		ours, theirs = theirs, ours
	}
	if ours <= 0 {
		if theirs <= 0 {
			return math.NaN()
		}
		return math.Inf(1)
	}
	return theirs / ours
}

// times is how many times better.
func times(ratio float64) string {
	switch {
	case math.IsNaN(ratio):
		return ""
	case math.IsInf(ratio, 0):
		return "∞"
	case ratio >= 100:
		return number(math.Round(ratio)) + " ×"
	case ratio >= 10:
		return fmt.Sprintf("%.0f ×", ratio)
	}
	return fmt.Sprintf("%.1f ×", ratio)
}
