package multidbprom

import (
	"time"

	"github.com/multidb-go/multidb"
	"github.com/prometheus/client_golang/prometheus"
)

// define lists every metric. A field of Stats that is in none fails a test.
func (c *collector) define() []metric {
	var all []metric
	for _, group := range [][]metric{databases(), shipping(), pool(), disk(), ownership(), build(), fleetLog(), c.replica(), c.sizes(), drills()} {
		all = append(all, group...)
	}
	return all
}

func databases() []metric {
	return []metric{
		gauge("databases", "Databases known now, of every tier.",
			func(s multidb.Stats) int { return s.Databases }),
		labelled(prometheus.GaugeValue, "tier_databases", "Databases in each tier now: hot ones are shipped every sync interval, warm ones every cold sync interval, cold ones when they change.",
			"tier", []string{"cold", "warm", "hot"}, func(s multidb.Stats) []float64 {
				return []float64{float64(s.Cold), float64(s.Warm), float64(s.Hot)}
			}),
		gauge("running_databases", "Databases that are being worked on now.",
			func(s multidb.Stats) int { return s.Running }),
		gauge("failing_databases", "Databases that wait now for another attempt after a failure.",
			func(s multidb.Stats) int { return s.Failing }),
		gauge("stopped_databases", "Databases that are not replicated now because they were refused or another writer was found.",
			func(s multidb.Stats) int { return s.Stopped }),
		gauge("pending_databases", "Databases with a change that is left local now because they are cold and the cold sync mode is none.",
			func(s multidb.Stats) int { return s.Pending }),
		gauge("ignored_files", "Files that match a pattern now and are no database, or a second name of one.",
			func(s multidb.Stats) int { return s.Ignored }),
		gauge("failing_scans", "Discoverers that failed at their last listing, and discovery roots in whose place another volume stands, now: databases that are not listed are not replicated.",
			func(s multidb.Stats) int { return s.FailingScans }),
		seconds("scan_running_seconds", "For how long the listing of databases has been going on that does so now; 0 if none does.",
			func(s multidb.Stats) time.Duration { return s.Scanning }),
		byReason(prometheus.GaugeValue, "unwell_databases", "Databases that are failing or stopped now, by reason.",
			func(s multidb.Stats) multidb.ByReason { return s.Unwell }),
		counter("promotions_total", "Databases that became hot or warm.",
			func(s multidb.Stats) int64 { return s.Promotions }),
		counter("demotions_total", "Databases that became cold.",
			func(s multidb.Stats) int64 { return s.Demotions }),
	}
}

func shipping() []metric {
	return []metric{
		lagHistogram("replication_lag_seconds", "Time from commit to acknowledgement by the replica.",
			func(s multidb.Stats) multidb.LagHistogram { return s.Lag }),
		seconds("replication_lag_p50_seconds", "Median time from commit to acknowledgement by the replica, of the last one to two minutes, rounded up by an eighth at most; 0 if nothing was shipped.",
			func(s multidb.Stats) time.Duration { return s.LagP50 }),
		seconds("replication_lag_p99_seconds", "99th percentile of the time from commit to acknowledgement by the replica, of the last one to two minutes, rounded up by an eighth at most; 0 if nothing was shipped.",
			func(s multidb.Stats) time.Duration { return s.LagP99 }),
		seconds("replication_lag_max_seconds", "Longest time now that a database has had something which the replica lacks, or has waited for its turn.",
			func(s multidb.Stats) time.Duration { return s.LagMax }),
		counter("shipped_transactions_total", "Transactions shipped to the replica.",
			func(s multidb.Stats) int64 { return s.Transactions }),
		counter("shipped_bytes_total", "Bytes of LTX written to the replica by shipping, compactions and snapshots not included.",
			func(s multidb.Stats) int64 { return s.Bytes }),
		counter("resyncs_total", "Whole states shipped where a continuation could not be proved.",
			func(s multidb.Stats) int64 { return s.Resyncs }),
		counter("compactions_total", "Compactions written to the replica.",
			func(s multidb.Stats) int64 { return s.Compactions }),
		counter("snapshots_total", "Snapshots written to the replica.",
			func(s multidb.Stats) int64 { return s.Snapshots }),
		counter("wal_gaps_total", "WALs that were cut although the replica did not have them, for their size: gaps in the history.",
			func(s multidb.Stats) int64 { return s.WALGaps }),
		byReason(prometheus.CounterValue, "failures_total", "Runs over a database that failed, by reason.",
			func(s multidb.Stats) multidb.ByReason { return s.FailuresBy }),
	}
}

func pool() []metric {
	return []metric{
		gauge("pool_open_databases", "Databases that the pool has open now.",
			func(s multidb.Stats) int { return s.Pool.Open }),
		gauge("pool_leased_databases", "Open databases that the application holds now.",
			func(s multidb.Stats) int { return s.Pool.Leased }),
		gauge("pool_idle_databases", "Open databases that nobody holds now.",
			func(s multidb.Stats) int { return s.Pool.Idle }),
		gauge("pool_waiting_callers", "Callers of Acquire that wait for a place now.",
			func(s multidb.Stats) int { return s.Pool.Waiting }),
		counter("pool_opens_total", "Databases opened by the pool.",
			func(s multidb.Stats) int64 { return s.Pool.Opens }),
		counter("pool_hits_total", "Calls of Acquire that found the database open.",
			func(s multidb.Stats) int64 { return s.Pool.Hits }),
		counter("pool_evictions_total", "Databases closed by the pool to make place or for being idle.",
			func(s multidb.Stats) int64 { return s.Pool.Evictions }),
	}
}

func disk() []metric {
	return []metric{
		gauge("evicted_databases", "Databases without a local file on purpose now.",
			func(s multidb.Stats) int { return s.Evicted }),
		gauge("disk_limit_bytes", "How large all local files may be together; 0: no limit.",
			func(s multidb.Stats) int { return int(s.Disk.Limit) }),
		gauge("disk_used_bytes", "How large all local files are now, with those that are being brought back; 0 without a limit.",
			func(s multidb.Stats) int { return int(s.Disk.Used) }),
		counter("disk_evictions_total", "Local files that were deleted for want of room.",
			func(s multidb.Stats) int64 { return s.Disk.Evictions }),
		counter("disk_eviction_failures_total", "Deletions of local files that were given up.",
			func(s multidb.Stats) int64 { return s.Disk.Failures }),
	}
}

func ownership() []metric {
	return []metric{
		labelled(prometheus.CounterValue, "ownership_changes_total", "Databases whose owner was decided by an operator: takeover (the local file wins), adopt (the replica wins), handover (to another machine).",
			"verb", []string{"takeover", "adopt", "handover"}, func(s multidb.Stats) []float64 {
				return []float64{float64(s.TakeOvers), float64(s.Adoptions), float64(s.HandOvers)}
			}),
	}
}

func fleetLog() []metric {
	return []metric{
		gauge("fleetlog_epoch", "Number of the fleet log that this process writes; 0 without one, and before the first write.",
			func(s multidb.Stats) int { return int(s.FleetLog.Epoch) }),
		counter("fleetlog_objects_total", "Objects of the fleet log that the replica has acknowledged.",
			func(s multidb.Stats) int64 { return s.FleetLog.Objects }),
		counter("fleetlog_files_total", "Files in the acknowledged objects of the fleet log, one for each database that had changed.",
			func(s multidb.Stats) int64 { return s.FleetLog.Files }),
		counter("fleetlog_bytes_total", "Bytes of the files in the acknowledged objects of the fleet log.",
			func(s multidb.Stats) int64 { return s.FleetLog.Bytes }),
		gauge("fleetlog_queued_files", "Files for the fleet log that the replica has not acknowledged now.",
			func(s multidb.Stats) int { return s.FleetLog.Queued }),
		gauge("fleetlog_pending_objects", "Objects of fleet logs that hold now what a prefix lacks.",
			func(s multidb.Stats) int { return s.FleetLog.Pending }),
		gauge("fleetlog_tails", "Databases whose prefix lacks something now that a fleet log has.",
			func(s multidb.Stats) int { return s.FleetLog.Tails }),
		gauge("fleetlog_tail_bytes", "Bytes that prefixes lack now and fleet logs have.",
			func(s multidb.Stats) int { return int(s.FleetLog.TailBytes) }),
		counter("fleetlog_unpacks_total", "Times that a prefix was given what it lacked of a fleet log.",
			func(s multidb.Stats) int64 { return s.FleetLog.Unpacks }),
		gauge("fleetlog_fenced", "1 if another process has taken over the fleet log, so that nothing is replicated any more; else 0.",
			func(s multidb.Stats) int {
				if s.FleetLog.Fenced {
					return 1
				}
				return 0
			}),
	}
}

func (c *collector) replica() []metric {
	kinds := []string{"put", "get", "list", "head", "delete"}
	requests := func(s multidb.Stats) []float64 {
		r := s.Requests
		return []float64{float64(r.Put), float64(r.Get), float64(r.List), float64(r.Head), float64(r.Delete)}
	}
	p := c.prices
	prices := []float64{p.Put, p.Get, p.List, p.Head, p.Delete}
	return []metric{
		labelled(prometheus.CounterValue, "replica_requests_total", "Requests to the replica by kind, retries included.",
			"kind", kinds, requests),
		labelled(prometheus.CounterValue, "replica_request_cost_usd_total", "Estimated cost of the requests to the replica by kind, in US dollars; storage and transfer not included.",
			"kind", kinds, func(s multidb.Stats) []float64 {
				costs := requests(s)
				for i := range costs {
					costs[i] = costs[i] * prices[i] / 1000
				}
				return costs
			}),
		counter("replica_request_errors_total", "Requests to the replica that failed; 404 and 412 answers not included.",
			func(s multidb.Stats) int64 { return s.Requests.Errors }),
		counter("replica_throttled_requests_total", "Requests that the replica answered with 503 or 429.",
			func(s multidb.Stats) int64 { return s.Requests.Throttled }),
		labelled(prometheus.CounterValue, "replica_body_bytes_total", "Bytes of bodies sent to the replica (out) and received from it (in).",
			"direction", []string{"out", "in"}, func(s multidb.Stats) []float64 {
				return []float64{float64(s.Requests.BytesOut), float64(s.Requests.BytesIn)}
			}),
	}
}

func (c *collector) sizes() []metric {
	amount := func(name, help string, value func(multidb.Stats) float64) metric {
		return metric{desc: prometheus.NewDesc("multidb_"+name, help, nil, nil), kind: prometheus.GaugeValue,
			values: func(s multidb.Stats) []float64 { return []float64{value(s)} }}
	}
	storage := multidb.StoragePrices{GBMonth: c.prices.GBMonth}
	return []metric{
		amount("local_bytes", "Bytes of the files and WALs of all databases on this disk now.",
			func(s multidb.Stats) float64 { return float64(s.LocalBytes) }),
		amount("wal_bytes", "Bytes of the WALs of all databases on this disk now.",
			func(s multidb.Stats) float64 { return float64(s.WALBytes) }),
		amount("replica_bytes", "Bytes of the LTX files in the prefixes of all databases now, as far as they are known; without a fleet log's, and without old versions.",
			func(s multidb.Stats) float64 { return float64(s.ReplicaBytes) }),
		amount("replica_objects", "Objects in the prefixes of all databases now, as far as they are known; without a fleet log's, and without old versions.",
			func(s multidb.Stats) float64 { return float64(s.ReplicaObjects) }),
		gauge("replica_unsized_databases", "Databases of which it is not known yet now what their prefixes hold.",
			func(s multidb.Stats) int { return s.ReplicaUnsized }),
		amount("replica_storage_cost_month_usd", "Estimated cost of keeping the bytes of the prefixes for a month, in US dollars.",
			func(s multidb.Stats) float64 { return storage.Monthly(s.ReplicaBytes) }),
	}
}

func drills() []metric {
	return []metric{
		labelled(prometheus.CounterValue, "drills_total", "Backups restored by drills, by what they told: done (good), failed (it does not restore), postponed (nothing, as the replica did not answer or the disk was full).",
			"outcome", []string{"done", "failed", "postponed"}, func(s multidb.Stats) []float64 {
				return []float64{float64(s.Drills.Done), float64(s.Drills.Failed), float64(s.Drills.Postponed)}
			}),
		gauge("drill_unproved_databases", "Databases whose backup no drill has found good yet, now.",
			func(s multidb.Stats) int { return s.Drills.Unproved }),
		gauge("drill_failing_databases", "Databases whose backup did not restore in its last drill, now.",
			func(s multidb.Stats) int { return s.Drills.Failing }),
		metric{desc: prometheus.NewDesc("multidb_drill_oldest_timestamp_seconds", "When the drill ended that is the longest ago of the last ones of all databases, in Unix seconds; 0 if there was none.", nil, nil),
			kind: prometheus.GaugeValue, values: func(s multidb.Stats) []float64 {
				if s.Drills.Oldest.IsZero() {
					return []float64{0}
				}
				return []float64{float64(s.Drills.Oldest.UnixMilli()) / 1000}
			}},
	}
}
