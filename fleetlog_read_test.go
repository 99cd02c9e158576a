package multidb_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestAWrongFleetLogIsRefusedByNew(t *testing.T) {
	url, err := multidb.NewURLReplica("file:///backup/{{tenant}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		replica multidb.ReplicaFactory
		cfg     multidb.FleetLogConfig
		want    string
	}{
		{"a path that leads out of the replica", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "a/../../b"}, `Path is "a/../../b"; want a relative path`},
		{"a path from the root", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "/fleet"}, `Path is "/fleet"; want a relative path`},
		{"a path for each tenant", multidbtest.NewReplica(), multidb.FleetLogConfig{Path: "fleet/{{tenant}}"}, "it is one directory for all tenants"},
		{"a negative interval", multidbtest.NewReplica(), multidb.FleetLogConfig{UnpackInterval: -1}, "UnpackInterval is -1ns; want a duration above zero"},
		{"a negative size", multidbtest.NewReplica(), multidb.FleetLogConfig{UnpackSize: -5}, "UnpackSize is -5; want a size above zero"},
		{"a negative retention", multidbtest.NewReplica(), multidb.FleetLogConfig{LogRetention: -1}, "LogRetention is -1ns; want a duration above zero"},
		{"no replica", nil, multidb.FleetLogConfig{}, "there is no replica; add multidb.WithReplica"},
		{"a replica without objects", url, multidb.FleetLogConfig{}, "a *multidb.URLReplica keeps no plain objects"},
	} {
		t.Run(c.name+" is an invalid option", func(t *testing.T) {
			opts := []multidb.Option{multidb.WithDiscoverer(multidb.Glob(t.TempDir() + "/{{tenant}}.db")), multidb.WithFleetLog(c.cfg)}
			if c.replica != nil {
				opts = append(opts, multidb.WithReplica(c.replica))
			}
			if _, err := multidb.New(opts...); !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %s", err, c.want)
			}
		})
	}
	for _, opt := range []multidb.FleetLogConfig{{}, {Path: "a/b"}} {
		if _, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/{{tenant}}.db")), multidb.WithFleetLog(opt),
			multidb.WithReplica(multidbtest.NewReplica())); err != nil {
			t.Error(err)
		}
	}
}
