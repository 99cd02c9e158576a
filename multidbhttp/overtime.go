package multidbhttp

import (
	"time"

	"github.com/multidb-go/multidb"
)

const (
	historySpan    = 24 * time.Hour
	historyColumns = 96
	columnSpan     = historySpan / historyColumns
	day            = 24 * time.Hour
)

// historyView puts samples into columns, which begin at whole quarters of an hour: else each
// look would show the same commits otherwise.
func (s *Server) historyView(samples []sample, now time.Time) historyView {
	bounds := multidb.LagBounds()
	v := historyView{Sampled: len(samples) > 0, Bounds: bounds[:]}
	v.To = now.Truncate(columnSpan).Add(columnSpan)
	v.From = v.To.Add(-historySpan)
	v.Columns = make([]historyColumn, historyColumns)
	for i := range v.Columns {
		c := &v.Columns[i]
		c.From = v.From.Add(time.Duration(i) * columnSpan)
		c.To = c.From.Add(columnSpan)
		c.Lag = make([]int64, len(bounds)+1)
	}
	for i, sm := range samples {
		at := int(sm.at.Sub(v.From) / columnSpan)
		if sm.at.Before(v.From) || at >= historyColumns {
			continue
		}
		c := &v.Columns[at]
		c.Known = true
		c.Failing, c.Stopped, c.UnwellAll = sm.failing, sm.stopped, sm.unwell.Total()
		if i == 0 {
			continue
		}
		c.add(&samples[i-1], &sm, s.opt.Prices)
	}
	for i := range v.Columns {
		v.Columns[i].quantiles(v.Bounds)
	}
	return v
}

// add adds what happened between two samples.
func (c *historyColumn) add(from, to *sample, p *Prices) {
	below := int64(0) // of the smaller buckets
	for i := range to.lag.Buckets {
		n := to.lag.Buckets[i] - from.lag.Buckets[i]
		c.Lag[i] += n - below
		below = n
	}
	all := to.lag.Count - from.lag.Count
	c.Lag[len(c.Lag)-1] += all - below
	c.Commits += all
	n := minus(to.requests, from.requests)
	c.Requests += n.Total()
	c.Dollars += p.requests(n)
}

// quantiles sets P50 and P99: the bounds of the buckets that they are in, the last bound
// where they are above all.
func (c *historyColumn) quantiles(bounds []time.Duration) {
	quantile := func(of int64) time.Duration {
		seen := int64(0)
		for i, n := range c.Lag {
			if seen += n; seen >= of {
				return bounds[min(i, len(bounds)-1)]
			}
		}
		return 0
	}
	if c.Commits > 0 {
		c.P50, c.P99 = quantile((c.Commits+1)/2), quantile(c.Commits-c.Commits/100)
	}
}

// dayView is what a day costs, by what was counted since the oldest sample. Less than a
// minute says nothing.
func (s *Server) dayView(samples []sample, st *multidb.Stats, now time.Time) dayView {
	v := dayView{StorageDollars: s.opt.Prices.monthly(st.ReplicaBytes) / 30, StorageGBMonthP: s.opt.Prices.GBMonth}
	if len(samples) > 0 {
		if over := now.Sub(samples[0].at); over >= time.Minute {
			v.Over = over
			v.Requests = perDay(minus(st.Requests, samples[0].requests), over)
			v.RequestDollars = s.opt.Prices.requests(v.Requests)
		}
	}
	v.Dollars = v.RequestDollars + v.StorageDollars
	v.MonthlyDollars = 30 * v.Dollars
	return v
}

func minus(a, b multidb.RequestStats) multidb.RequestStats {
	return multidb.RequestStats{Put: a.Put - b.Put, Get: a.Get - b.Get, List: a.List - b.List, Head: a.Head - b.Head,
		Delete: a.Delete - b.Delete, Errors: a.Errors - b.Errors, Throttled: a.Throttled - b.Throttled,
		BytesOut: a.BytesOut - b.BytesOut, BytesIn: a.BytesIn - b.BytesIn}
}

// perDay is how many of n there are in a day, if n is what there was in over.
func perDay(n multidb.RequestStats, over time.Duration) multidb.RequestStats {
	scale := func(v int64) int64 { return int64(float64(v)*float64(day)/float64(over) + 0.5) }
	return multidb.RequestStats{Put: scale(n.Put), Get: scale(n.Get), List: scale(n.List), Head: scale(n.Head),
		Delete: scale(n.Delete), Errors: scale(n.Errors), Throttled: scale(n.Throttled),
		BytesOut: scale(n.BytesOut), BytesIn: scale(n.BytesIn)}
}
