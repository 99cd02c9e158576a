package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// keptObjects is a replica in memory whose objects can be looked at.
type keptObjects struct {
	memReplica
	objects *memObjects
}

func (k keptObjects) Objects(string) (multidb.ObjectStore, error) { return k.objects, nil }

func TestTheStoreFindsTheCommitsInAFleetLogOnceAllBeforeAreThere(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	const tenants, commits = 3, 4
	if err := newFleet(ctx, dir, tenants, 0); err != nil {
		t.Fatal(err)
	}
	k := keptObjects{objects: &memObjects{objects: map[string]memObject{}}}
	m, err := startManager(ctx, dir, multidb.WithReplica(k), fleetLog(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for seq := 1; seq <= commits; seq++ {
		if err := m.writeAll(ctx, tenants, seq); err != nil {
			t.Fatal(err)
		}
		if err := m.syncAll(ctx, tenants, tenants); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.stop(ctx); err != nil {
		t.Fatal(err)
	}

	var names []string
	for o, err := range k.objects.List(context.Background(), format.LogDir(1), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	if len(names) < commits {
		t.Fatalf("%d objects, want one for each commit at least", len(names))
	}
	s := newTestStore(t)
	s.record(true)
	for _, i := range append(upTo(len(names))[1:], 0) { // the first one last
		put(t, s, logPath+"/"+names[i], k.objects.objects[names[i]].data)
		if n := s.protected; i != 0 && n != 0 {
			t.Fatalf("%d databases are protected by object %d without the first", n, i+1)
		}
	}
	got, err := s.seqs(bucket)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	for _, a := range got {
		if a.Seq < last[a.Prefix] {
			t.Errorf("%+v after commit %d", a, last[a.Prefix])
		}
		last[a.Prefix] = a.Seq
	}
	for i := range tenants {
		if seq := last[string(fleetID(i))]; seq != commits {
			t.Errorf("of %s, commit %d arrived, want %d", fleetID(i), seq, commits)
		}
	}
	if s.protected != tenants {
		t.Errorf("%d are protected, want %d", s.protected, tenants)
	}
}

func TestARequestIsOfTheLogOrOfALevel(t *testing.T) {
	for key, want := range map[string]string{
		logPath + "/" + format.ObjectName(1, 2): "log",
		logPath + "/" + format.LogDir(7):        "log",
		logPath + "/" + format.MapDir:           "map",
		logPath + "/" + format.LargeName(1, 2):  "large",
		logPath + "/" + format.MemberDir + "x":  "member",
		logPath + "/cluster/settings":           "settings",
		"project0/db1/":                         "prefix",
		"project0/db1/metadata.json":            "metadata",
		"project0/db1/0000/1.ltx":               "level 0",
		"project0/db1/0009/1.ltx":               "level 9",
		"x":                                     "other",
		"":                                      "other",
	} {
		if got := classOf(key); got != want {
			t.Errorf("%q is of %q, want %q", key, got, want)
		}
	}
}

func TestAnHourIsTheLogsIntervalsAndTheTenantsUnpackings(t *testing.T) {
	for _, c := range []struct{ perInterval, perUnpacking, unpackings, want float64 }{
		{1, 1, 12, 3600 + 12000 + 1000./24},
		{1, 1, 1. / 3, 3600 + 1000./3 + 1000./24},
		{0.5, 1 + 1./60, 12, 1800 + 12200 + 1000./24},
	} {
		if got := putsAnHour(1000, c.perInterval, c.perUnpacking, c.unpackings); fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
