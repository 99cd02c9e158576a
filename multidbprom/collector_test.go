package multidbprom_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a fixed Stats that counts how often it is asked.
type source struct {
	stats multidb.Stats
	asked int
}

func (s *source) Stats() multidb.Stats {
	s.asked++
	return s.stats
}

func TestTheCollectorIsAsPrometheusWantsIt(t *testing.T) {
	problems, err := testutil.CollectAndLint(multidbprom.New(&source{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestAPedanticRegistryTakesItAndAsksOncePerScrape(t *testing.T) {
	s := &source{}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(multidbprom.New(s)); err != nil {
		t.Fatal(err)
	}
	if s.asked != 0 {
		t.Errorf("asked %d times by registering", s.asked)
	}
	names, series := 0, 0
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names++
		for _, m := range f.GetMetric() {
			series++
			if h := m.GetHistogram(); h != nil { // each bucket, +Inf, sum and count
				series += len(h.GetBucket()) + 2
			}
		}
	}
	if s.asked != 1 {
		t.Errorf("asked %d times by a scrape", s.asked)
	}
	t.Logf("%d names, %d series", names, series)
	if names < 30 || series > 150 {
		t.Errorf("%d names, %d series", names, series)
	}
}

func TestTheNumberOfSeriesDoesNotDependOnTheNumberOfDatabases(t *testing.T) {
	few := testutil.CollectAndCount(multidbprom.New(&source{}))
	many := testutil.CollectAndCount(multidbprom.New(&source{stats: multidb.Stats{Databases: 100_000, Cold: 90_000, Failing: 10_000}}))
	if few != many || many > 150 {
		t.Errorf("%d series for none, %d for 100,000", few, many)
	}
}

// Each field of Stats gets a value of its own, which must be among what is
// exported: a field added to Stats and not to the collector fails here.
func TestEveryFieldOfStatsIsExported(t *testing.T) {
	var stats multidb.Stats
	want := map[float64]string{}
	next := int64(1000)
	var fill func(v reflect.Value, path string)
	fill = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f, name := v.Field(i), path+v.Type().Field(i).Name
			next++
			switch {
			case f.Type() == reflect.TypeFor[time.Time]():
				f.Set(reflect.ValueOf(time.Unix(next, 0)))
				want[float64(next)] = name
			case f.Kind() == reflect.Struct:
				fill(f, name+".")
			case f.Kind() == reflect.Array:
				for j := range f.Len() {
					next++
					f.Index(j).SetInt(next)
					want[float64(next)] = fmt.Sprintf("%s[%d]", name, j)
				}
			case f.Type() == reflect.TypeFor[time.Duration]():
				f.SetInt(next * int64(time.Second))
				want[float64(next)] = name
			case f.CanInt():
				f.SetInt(next)
				want[float64(next)] = name
			case f.CanUint():
				f.SetUint(uint64(next))
				want[float64(next)] = name
			case f.Kind() == reflect.Bool:
				f.SetBool(true)
				want[1] = name
			default:
				t.Errorf("Stats.%s is a %s, which this test does not know", name, f.Type())
			}
		}
	}
	fill(reflect.ValueOf(&stats).Elem(), "")

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(multidbprom.New(&source{stats: stats}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	times := map[float64]int{}
	for _, f := range families {
		if f.GetName() == "multidb_build_info" { // of the program
			continue
		}
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				times[float64(h.GetSampleCount())]++
				times[h.GetSampleSum()]++
				for _, b := range h.GetBucket() {
					times[float64(b.GetCumulativeCount())]++
				}
				continue
			}
			times[m.GetCounter().GetValue()+m.GetGauge().GetValue()]++
		}
	}
	for v, name := range want {
		if name == "Failures" || name == "Shipped" { // the sum of FailuresBy; what replicate -once says
			continue
		}
		if times[v] != 1 {
			t.Errorf("Stats.%s is exported %d times", name, times[v])
		}
	}
}

func TestEachValueIsUnderItsName(t *testing.T) {
	c := multidbprom.New(&source{stats: multidb.Stats{
		Databases: 60, Cold: 50, Warm: 3, Hot: 7, Failing: 2, Stopped: 1,
		LagP50: 500 * time.Millisecond, LagP99: 2 * time.Second,
		Pool:     multidb.PoolStats{Open: 5, Leased: 4, Idle: 1},
		FleetLog: multidb.FleetLogStats{Epoch: 11, Objects: 12, Files: 13, Bytes: 14, Queued: 15, Pending: 16, Tails: 17, TailBytes: 18, Unpacks: 19, Fenced: true},
		Requests: multidb.RequestStats{Put: 2000, List: 3000, Get: 10_000, Head: 5000, Delete: 9000, Throttled: 8, BytesOut: 70, BytesIn: 90},
	}})
	const want = `
# HELP multidb_failing_databases Databases that wait now for another attempt after a failure.
# TYPE multidb_failing_databases gauge
multidb_failing_databases 2
# HELP multidb_fleetlog_bytes_total Bytes of the files in the acknowledged objects of the fleet log.
# TYPE multidb_fleetlog_bytes_total counter
multidb_fleetlog_bytes_total 14
# HELP multidb_fleetlog_epoch Number of the fleet log that this process writes; 0 without one, and before the first write.
# TYPE multidb_fleetlog_epoch gauge
multidb_fleetlog_epoch 11
# HELP multidb_fleetlog_fenced 1 if another process has taken over the fleet log, so that nothing is replicated any more; else 0.
# TYPE multidb_fleetlog_fenced gauge
multidb_fleetlog_fenced 1
# HELP multidb_fleetlog_files_total Files in the acknowledged objects of the fleet log, one for each database that had changed.
# TYPE multidb_fleetlog_files_total counter
multidb_fleetlog_files_total 13
# HELP multidb_fleetlog_objects_total Objects of the fleet log that the replica has acknowledged.
# TYPE multidb_fleetlog_objects_total counter
multidb_fleetlog_objects_total 12
# HELP multidb_fleetlog_pending_objects Objects of fleet logs that hold now what a prefix lacks.
# TYPE multidb_fleetlog_pending_objects gauge
multidb_fleetlog_pending_objects 16
# HELP multidb_fleetlog_queued_files Files for the fleet log that the replica has not acknowledged now.
# TYPE multidb_fleetlog_queued_files gauge
multidb_fleetlog_queued_files 15
# HELP multidb_fleetlog_tail_bytes Bytes that prefixes lack now and fleet logs have.
# TYPE multidb_fleetlog_tail_bytes gauge
multidb_fleetlog_tail_bytes 18
# HELP multidb_fleetlog_tails Databases whose prefix lacks something now that a fleet log has.
# TYPE multidb_fleetlog_tails gauge
multidb_fleetlog_tails 17
# HELP multidb_fleetlog_unpacks_total Times that a prefix was given what it lacked of a fleet log.
# TYPE multidb_fleetlog_unpacks_total counter
multidb_fleetlog_unpacks_total 19
# HELP multidb_replica_body_bytes_total Bytes of bodies sent to the replica (out) and received from it (in).
# TYPE multidb_replica_body_bytes_total counter
multidb_replica_body_bytes_total{direction="in"} 90
multidb_replica_body_bytes_total{direction="out"} 70
# HELP multidb_replica_request_cost_usd_total Estimated cost of the requests to the replica by kind, in US dollars; storage and transfer not included.
# TYPE multidb_replica_request_cost_usd_total counter
multidb_replica_request_cost_usd_total{kind="delete"} 0
multidb_replica_request_cost_usd_total{kind="get"} 0.004
multidb_replica_request_cost_usd_total{kind="head"} 0.002
multidb_replica_request_cost_usd_total{kind="list"} 0.015
multidb_replica_request_cost_usd_total{kind="put"} 0.01
# HELP multidb_replica_requests_total Requests to the replica by kind, retries included.
# TYPE multidb_replica_requests_total counter
multidb_replica_requests_total{kind="delete"} 9000
multidb_replica_requests_total{kind="get"} 10000
multidb_replica_requests_total{kind="head"} 5000
multidb_replica_requests_total{kind="list"} 3000
multidb_replica_requests_total{kind="put"} 2000
# HELP multidb_replication_lag_p50_seconds Median time from commit to acknowledgement by the replica, of the last one to two minutes, rounded up by an eighth at most; 0 if nothing was shipped.
# TYPE multidb_replication_lag_p50_seconds gauge
multidb_replication_lag_p50_seconds 0.5
# HELP multidb_tier_databases Databases in each tier now: hot ones are shipped every sync interval, warm ones every cold sync interval, cold ones when they change.
# TYPE multidb_tier_databases gauge
multidb_tier_databases{tier="cold"} 50
multidb_tier_databases{tier="hot"} 7
multidb_tier_databases{tier="warm"} 3
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "multidb_failing_databases", "multidb_fleetlog_bytes_total", "multidb_fleetlog_epoch", "multidb_fleetlog_fenced",
		"multidb_fleetlog_files_total", "multidb_fleetlog_objects_total", "multidb_fleetlog_pending_objects", "multidb_fleetlog_queued_files",
		"multidb_fleetlog_tail_bytes", "multidb_fleetlog_tails", "multidb_fleetlog_unpacks_total", "multidb_replica_body_bytes_total",
		"multidb_replica_request_cost_usd_total", "multidb_replica_requests_total", "multidb_replication_lag_p50_seconds", "multidb_tier_databases"); err != nil {
		t.Error(err)
	}
}

func TestWrongOptionsFailTheRegistration(t *testing.T) {
	for name, c := range map[string]prometheus.Collector{
		"no Manager":       multidbprom.New(nil),
		"a negative price": multidbprom.New(&source{}, multidbprom.WithPrices(multidbprom.Prices{Put: -1})),
		"no number":        multidbprom.New(&source{}, multidbprom.WithPrices(multidbprom.Prices{Delete: math.NaN()})),
		"infinite":         multidbprom.New(&source{}, multidbprom.WithPrices(multidbprom.Prices{Get: math.Inf(1)})),
	} {
		if err := prometheus.NewRegistry().Register(c); err == nil || !strings.Contains(err.Error(), "multidbprom: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwoManagersGoOnOneRegistryWithALabelEach(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"a", "b"} {
		r := prometheus.WrapRegistererWith(prometheus.Labels{"fleet": name}, registry)
		if err := r.Register(multidbprom.New(&source{})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}

func TestAManagerIsCollectedBeforeStartWhileItRunsAndAfterClose(t *testing.T) {
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/{{database}}.db")),
		multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithStateDir(t.TempDir()),
	)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(multidbprom.New(m))
	gather := func() {
		if _, err := registry.Gather(); err != nil {
			t.Error(err)
		}
	}
	gather()
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	gather()
	if err := m.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	gather()
}
