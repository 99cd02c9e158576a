package multidbprom

import (
	"runtime"
	"runtime/debug"

	"github.com/multidb-go/multidb"
	"github.com/prometheus/client_golang/prometheus"
)

const module = "github.com/multidb-go/multidb"

// build says what runs, in the labels of a constant 1.
func build() []metric {
	labels := prometheus.Labels{"version": version(debug.ReadBuildInfo()), "goversion": runtime.Version()}
	return []metric{{
		desc: prometheus.NewDesc("multidb_build_info", "1; the labels say which version of multidb runs, and what it was built with.", nil, labels),
		kind: prometheus.GaugeValue, values: func(multidb.Stats) []float64 { return []float64{1} },
	}}
}

// version is that of this module in the program.
func version(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil && m.Replace.Version != "" {
			return m.Replace.Version
		}
		return m.Version
	}
	return "(devel)"
}
