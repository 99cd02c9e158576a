package fleet

import (
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/replicate"
)

// TestWhatComesBackDuringAScanIsNotForgotten: the scan has listed the directory while there
// was no file on purpose, and decides when there is one.
func TestWhatComesBackDuringAScanIsNotForgotten(t *testing.T) {
	r := newRig(t, func(cfg *Config) { cfg.MaxDisk, cfg.Resident = 1<<20, func(string) {} })
	e := r.find(t, "a", fsid.ID{Dev: 1, Ino: 7})
	r.BeginEvict(&Run{Entry: e})
	scan := r.NextScan()
	r.Restored(e, replicate.Remains{})
	if r.Evicted(e) {
		t.Fatal("it has no local file")
	}
	if r.Remove(e, scan, false) {
		t.Error("the scan has forgotten it")
	}
	if !r.Remove(e, r.NextScan(), false) {
		t.Error("the next scan, which does not list it either, keeps it")
	}
}
