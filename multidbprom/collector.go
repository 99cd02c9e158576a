// Package multidbprom exports the Stats of a multidb.Manager to Prometheus.
//
//	err := registry.Register(multidbprom.New(manager))
//
// The number of series does not depend on the number of databases, nor of nodes: it is
// below 150. Which database has a problem, and why, is answered by Manager.Healthy and
// Manager.Status, not by labels. To register two Managers with one registry, use
// prometheus.WrapRegistererWith and a label for each.
//
// The file dashboard.json beside this package is a Grafana dashboard of all these
// metrics, to be imported as it is.
//
// Counters begin at zero when the Manager is made, those of the replica when
// its factory is. The cost is an estimate from the requests that were counted
// and the prices given: data transfer and requests of other processes are not in
// it. That of storage is one of its own, from the bytes that the prefixes hold now.
package multidbprom

import (
	"errors"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/prometheus/client_golang/prometheus"
)

// Source is what a *multidb.Manager has.
type Source interface {
	Stats() multidb.Stats
}

// Option configures the collector.
type Option func(*collector)

// WithPrices sets what requests and storage cost. Default: S3StandardPrices. With a price
// that is negative or no number, the collector cannot be registered.
func WithPrices(p Prices) Option { return func(c *collector) { c.prices = p } }

// New returns a collector of what m.Stats returns, and m.Nodes if m is a NodesSource. It asks once per scrape,
// which costs the same however many databases there are, and starts no
// goroutine. It is safe for concurrent use, and not registered yet. Register returns
// the errors of the options.
func New(m Source, opts ...Option) prometheus.Collector {
	c := &collector{source: m, prices: S3StandardPrices()}
	for _, o := range opts {
		o(c)
	}
	if m == nil {
		c.err = errors.New("multidbprom: nil Manager")
	} else {
		c.err = c.prices.validate()
	}
	c.metrics, c.cluster = c.define(), clusterMetrics()
	return c
}

type collector struct {
	source  Source
	prices  Prices
	metrics []metric
	cluster []ofCluster
	err     error
}

// metric is one name. values gives one value for each of its label's values, in
// their order, or one if it has no label.
type metric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string
	values func(multidb.Stats) []float64
	// histogram is set instead of values.
	histogram func(multidb.Stats) multidb.LagHistogram
}

// Describe sends the descriptions, which never change.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	if c.err != nil {
		ch <- prometheus.NewInvalidDesc(c.err)
		return
	}
	for _, m := range c.metrics {
		ch <- m.desc
	}
	for _, m := range c.cluster {
		ch <- m.desc
	}
}

// Collect sends the metrics of one call of Stats, and of one of Nodes.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	if c.err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(c.err), c.err)
		return
	}
	s := c.source.Stats()
	for _, m := range c.metrics {
		if m.histogram != nil {
			ch <- m.constHistogram(s)
			continue
		}
		for i, v := range m.values(s) {
			if m.labels == nil {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v)
			} else {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, m.labels[i])
			}
		}
	}
	c.collectCluster(ch)
}

func (m metric) constHistogram(s multidb.Stats) prometheus.Metric {
	h := m.histogram(s)
	buckets := make(map[float64]uint64, len(h.Buckets))
	for i, bound := range multidb.LagBounds() {
		buckets[bound.Seconds()] = uint64(h.Buckets[i])
	}
	return prometheus.MustNewConstHistogram(m.desc, uint64(h.Count), h.Sum.Seconds(), buckets)
}

func gauge(name, help string, value func(multidb.Stats) int) metric {
	return metric{desc: prometheus.NewDesc("multidb_"+name, help, nil, nil), kind: prometheus.GaugeValue,
		values: func(s multidb.Stats) []float64 { return []float64{float64(value(s))} }}
}

func seconds(name, help string, value func(multidb.Stats) time.Duration) metric {
	return metric{desc: prometheus.NewDesc("multidb_"+name, help, nil, nil), kind: prometheus.GaugeValue,
		values: func(s multidb.Stats) []float64 { return []float64{value(s).Seconds()} }}
}

func counter(name, help string, value func(multidb.Stats) int64) metric {
	return metric{desc: prometheus.NewDesc("multidb_"+name, help, nil, nil), kind: prometheus.CounterValue,
		values: func(s multidb.Stats) []float64 { return []float64{float64(value(s))} }}
}

func lagHistogram(name, help string, value func(multidb.Stats) multidb.LagHistogram) metric {
	return metric{desc: prometheus.NewDesc("multidb_"+name, help, nil, nil), histogram: value}
}

// byReason has one series for each multidb.Reason, however many occur.
func byReason(kind prometheus.ValueType, name, help string, value func(multidb.Stats) multidb.ByReason) metric {
	var labels []string
	for _, r := range multidb.Reasons() {
		labels = append(labels, strings.ReplaceAll(r.String(), " ", "_"))
	}
	return labelled(kind, name, help, "reason", labels, func(s multidb.Stats) []float64 {
		n := value(s)
		values := make([]float64, len(n))
		for i := range n {
			values[i] = float64(n[i])
		}
		return values
	})
}

// labelled has one series for each of labels.
func labelled(kind prometheus.ValueType, name, help, label string, labels []string, values func(multidb.Stats) []float64) metric {
	return metric{desc: prometheus.NewDesc("multidb_"+name, help, []string{label}, nil), kind: kind, labels: labels, values: values}
}
