package multidbprom

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionIsThatOfTheModuleInTheProgram(t *testing.T) {
	dep := func(m debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "example.com/app", Version: "v9.9.9"}, Deps: []*debug.Module{{Path: "example.com/other", Version: "v3.0.0"}, &m}}
	}
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3":  {Main: debug.Module{Path: module, Version: "v1.2.3"}},
		"v1.3.0":  dep(debug.Module{Path: module, Version: "v1.3.0"}),
		"v1.3.1":  dep(debug.Module{Path: module, Version: "v1.3.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.3.1"}}),
		"v0.0.0":  dep(debug.Module{Path: module, Version: "v0.0.0", Replace: &debug.Module{Path: "../"}}),
		"(devel)": {Main: debug.Module{Path: module}},
	} {
		if got := version(info, true); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := version(nil, false); got != "unknown" {
		t.Errorf("without build information: %q", got)
	}
}
