package config

import (
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/multidb-go/multidb"
)

// settings is what the keys under multi-db and the shared ones under
// replica-template say.
type settings struct {
	disabled  bool
	patterns  []string
	noRestore bool // restore-on-open: false
	stateDir  string
	options   []multidb.Option
	replica   replica

	promotion *promotion
	fleetLog  *multidb.FleetLogConfig // with its default path
	cluster   *multidb.ClusterConfig
	rules     []rule
	drills    *multidb.DrillOptions
	listen    *Listen
	log       *logging
}

// promotion begins with what the library has where a key is left out.
type promotion struct {
	recentModify time.Duration
	accessCount  int
}

func defaultPromotion() *promotion { return &promotion{recentModify: 5 * time.Minute, accessCount: 10} }

type logging struct {
	level slog.Level
	json  bool
}

func (l *logging) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: l.level, ReplaceAttr: LogWords}
	if l.json {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// durationKey is a duration above zero that is an option.
func (s *settings) durationKey(name, option string, with func(time.Duration) multidb.Option) key {
	return key{name: name, sets: option, read: duration(1, func(d time.Duration) { s.add(with(d)) })}
}

// countKey is a number of at least 1 that is an option.
func (s *settings) countKey(name, option string, with func(int) multidb.Option) key {
	return key{name: name, sets: option, read: integer(1, math.MaxInt32, func(n int64) { s.add(with(int(n))) })}
}

func (s *settings) add(o multidb.Option) { s.options = append(s.options, o) }

// rootKeys are those of the document.
func (s *settings) rootKeys() []key {
	return []key{{name: "multi-db", required: true, read: func(d *decoder, v value) {
		d.mapping(v, s.multiKeys(), s.places("in replica-template", s.replicaKeys()))
	}}}
}

// places says of each key where it belongs, for one that stands elsewhere.
func (s *settings) places(where string, keys []key) map[string]string {
	m := map[string]string{}
	for _, k := range keys {
		m[k.name] = where
	}
	return m
}

func (s *settings) multiKeys() []key {
	return []key{
		{name: "enabled", read: boolean(func(on bool) { s.disabled = !on })},
		{name: "patterns", sets: "WithDiscoverer", required: true, read: s.readPatterns},
		{name: "replica-template", sets: "WithReplica", required: true, read: s.readReplica},
		{name: "state-dir", sets: "WithStateDir", read: requiredText(func(dir string) {
			s.stateDir = dir
			s.add(multidb.WithStateDir(dir))
		})},
		{name: "allow-missing-roots", sets: "WithMissingRoots", read: boolean(func(on bool) { s.add(multidb.WithMissingRoots(on)) })},
		{name: "allow-emptied-volumes", sets: "WithEmptiedVolumes", read: boolean(func(on bool) { s.add(multidb.WithEmptiedVolumes(on)) })},
		s.countKey("max-hot-databases", "WithMaxHot", multidb.WithMaxHot),
		s.durationKey("hot-duration", "WithHotDuration", multidb.WithHotDuration),
		{name: "hot-promotion", sets: "WithPromotion", read: s.readPromotion},
		s.durationKey("scan-interval", "WithScanInterval", multidb.WithScanInterval),
		{name: "watch", sets: "WithWatch", read: boolean(func(on bool) { s.add(multidb.WithWatch(on)) })},
		s.durationKey("cold-sync-interval", "WithColdSyncInterval", multidb.WithColdSyncInterval),
		{name: "cold-sync-mode", sets: "WithColdSyncMode", read: oneOf([]string{"snapshot", "none"}, func(mode string) {
			s.add(multidb.WithColdSyncMode(map[string]multidb.ColdSyncMode{
				"snapshot": multidb.ColdSyncSnapshot, "none": multidb.ColdSyncNone}[mode]))
		})},
		s.countKey("max-open-databases", "WithMaxOpen", multidb.WithMaxOpen),
		s.countKey("max-connections", "WithMaxConns", multidb.WithMaxConns),
		{name: "idle-timeout", sets: "WithIdleTimeout", read: duration(0, func(t time.Duration) { s.add(multidb.WithIdleTimeout(t)) })},
		s.durationKey("busy-timeout", "WithBusyTimeout", multidb.WithBusyTimeout),
		{name: "pragmas", sets: "WithPragma", read: s.readPragmas},
		{name: "lease-traces", sets: "WithLeaseTraces", read: boolean(func(on bool) { s.add(multidb.WithLeaseTraces(on)) })},
		{name: "restore-on-open", sets: "WithRestoreOnOpen", read: boolean(func(on bool) {
			if s.noRestore = !on; on {
				s.add(multidb.WithRestoreOnOpen())
			}
		})},
		{name: "integrity-check", sets: "WithIntegrityCheck", read: oneOf([]string{"none", "quick", "full"}, func(name string) {
			var check multidb.IntegrityCheck
			_ = check.UnmarshalText([]byte(name)) // which is one of these
			s.add(multidb.WithIntegrityCheck(check))
		})},
		{name: "takeover", sets: "WithTakeover", read: oneOf([]string{"never", "unknown"}, func(policy string) {
			s.add(multidb.WithTakeover(map[string]multidb.TakeoverPolicy{
				"never": multidb.TakeoverNever, "unknown": multidb.TakeoverUnknown}[policy]))
		})},
		s.countKey("upload-concurrency", "WithUploadConcurrency", multidb.WithUploadConcurrency),
		s.countKey("checkpoint-pages", "WithCheckpointPages", multidb.WithCheckpointPages),
		{name: "max-wal-size", sets: "WithMaxWALSize", read: size(1<<16, func(n int64) { s.add(multidb.WithMaxWALSize(n)) })},
		{name: "max-total-wal-size", sets: "WithMaxTotalWALSize", read: sizeOrZero(1<<16, func(n int64) { s.add(multidb.WithMaxTotalWALSize(n)) })},
		{name: "max-disk", sets: "WithMaxDisk", read: sizeOrZero(1<<16, func(n int64) { s.add(multidb.WithMaxDisk(n)) })},
		{name: "removed-retention", sets: "WithRemovedRetention", read: duration(1, func(t time.Duration) { s.add(multidb.WithRemovedRetention(t)) })},
		{name: "cache-size", sets: "WithCacheSize", read: size(0, func(n int64) { s.add(multidb.WithCacheSize(n)) })},
		{name: "policies", sets: "WithPolicy", read: s.readPolicies},
		{name: "fleet-log", sets: "WithFleetLog", read: s.readFleetLog},
		{name: "cluster", sets: "WithCluster", read: s.readCluster},
		{name: "drills", sets: "WithDrills", read: s.readDrills},
		{name: "listen", read: s.readListen},
		{name: "log", sets: "WithLogger", read: s.readLog},
	}
}

func (s *settings) readPatterns(d *decoder, v value) {
	list, ok := v.node.(*ast.SequenceNode)
	if !ok {
		d.failValue(v, `want a list, not %s; write - "/data/{{project}}/databases/{{database}}.db" below it`, kindOf(v.node))
		return
	}
	if len(list.Values) == 0 {
		d.failValue(v, `it has no pattern; write for example - "/data/{{project}}/databases/{{database}}.db"`)
	}
	for _, n := range list.Values {
		item := value{node: n, path: v.path}
		requiredText(func(p string) {
			if _, err := multidb.ParsePattern(p); err != nil {
				d.failLibrary(item, err)
				return
			}
			s.patterns = append(s.patterns, p)
		})(d, item)
	}
}

func (s *settings) readPromotion(d *decoder, v value) {
	p := defaultPromotion()
	d.mapping(v, []key{
		{name: "recent-modify-threshold", read: duration(0, func(t time.Duration) { p.recentModify = t })},
		{name: "access-count-threshold", read: integer(0, math.MaxUint16, func(n int64) { p.accessCount = int(n) })},
	}, nil)
	s.promotion = p
}

// fleetLogKeys has one for every field of FleetLogConfig.
func fleetLogKeys(c *multidb.FleetLogConfig) []key {
	return []key{
		// What the library says of the option is nearly always about it.
		{name: "path", sets: "WithFleetLog", read: requiredText(func(path string) { c.Path = path })},
		{name: "unpack-interval", read: duration(1, func(t time.Duration) { c.UnpackInterval = t })},
		{name: "unpack-size", read: size(1<<16, func(n int64) { c.UnpackSize = n })},
		{name: "log-retention", read: duration(1, func(t time.Duration) { c.LogRetention = t })},
	}
}

func (s *settings) readFleetLog(d *decoder, v value) {
	s.fleetLog = &multidb.FleetLogConfig{Path: defaultFleetLog}
	d.mapping(v, fleetLogKeys(s.fleetLog), nil)
	s.add(multidb.WithFleetLog(*s.fleetLog))
}

// drillKeys has one for every field of DrillOptions.
func drillKeys(o *multidb.DrillOptions) []key {
	return []key{
		{name: "per-day", required: true, read: integer(1, 1_000_000, func(n int64) { o.PerDay = int(n) })},
		{name: "max-age", read: duration(0, func(t time.Duration) { o.MaxAge = t })},
	}
}

func (s *settings) readDrills(d *decoder, v value) {
	var o multidb.DrillOptions
	before := len(d.errs)
	d.mapping(v, drillKeys(&o), nil)
	if len(d.errs) == before {
		s.drills = &o
		s.add(multidb.WithDrills(o))
	}
}

// defaultFleetLog is the library's.
const defaultFleetLog = "fleet"

func (s *settings) readLog(d *decoder, v value) {
	l := &logging{}
	d.mapping(v, []key{
		{name: "level", read: oneOf([]string{"debug", "info", "warn", "error"}, func(name string) {
			l.level = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo,
				"warn": slog.LevelWarn, "error": slog.LevelError}[name]
		})},
		{name: "format", read: oneOf([]string{"text", "json"}, func(format string) { l.json = format == "json" })},
	}, nil)
	s.log = l
}
