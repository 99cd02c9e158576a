package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/cluster"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
)

// objects is a directory of a replica as the inner packages take it.
type objects struct{ multidb.ObjectStore }

func (o objects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		for info, err := range o.ObjectStore.List(ctx, prefix, after) {
			if !yield(store.ObjectInfo(info), err) {
				return
			}
		}
	}
}

func fleetDir(t *testing.T) store.Objects {
	t.Helper()
	dir, err := multidbtest.NewReplica().Objects("fleet")
	if err != nil {
		t.Fatal(err)
	}
	return objects{dir}
}

// TestSettingsThatThisVersionDoesNotShareAreRefused: where two versions put a tenant into different
// shards, or take different templates for its prefix, it would have two owners.
func TestSettingsThatThisVersionDoesNotShareAreRefused(t *testing.T) {
	mine := cluster.SettingsOf("backups/ID")
	encoded := func(change func(*cluster.Settings)) string {
		other := mine
		change(&other)
		b, err := json.Marshal(other)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, c := range map[string]struct {
		theirs string
		says   []string // nothing: they are the same
	}{
		"the same":                {encoded(func(*cluster.Settings) {}), nil},
		"a newer format":          {encoded(func(s *cluster.Settings) { s.Format = 2 }), []string{"(format 2)", "(format 1)"}},
		"a newer one of a field":  {`{"format":2,"shards":1024,"hash":"sha256, the first 10 bits","template":"backups/ID","zones":3}`, []string{"(format 2)", "(format 1)"}},
		"more shards":             {encoded(func(s *cluster.Settings) { s.Shards = 4096 }), []string{"into 4096 shards", "into 1024 by"}},
		"another hash":            {encoded(func(s *cluster.Settings) { s.Hash = "xxh3" }), []string{"xxh3", mine.Hash}},
		"another template":        {encoded(func(s *cluster.Settings) { s.Template = "other/ID" }), []string{`"other/ID"`, `"backups/ID"`}},
		"what is no settings":     {"{", []string{"cluster/settings cannot be read"}},
		"nothing":                 {"", []string{"cluster/settings cannot be read"}},
		"more than anybody reads": {encoded(func(s *cluster.Settings) { s.Template = strings.Repeat("x", 1<<17) }), []string{"cluster/settings cannot be read"}},
	} {
		dir := fleetDir(t)
		if err := dir.Create(t.Context(), "cluster/settings", []byte(c.theirs)); err != nil {
			t.Fatal(err)
		}
		err := cluster.Agree(t.Context(), dir, mine)
		if c.says == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, cluster.ErrSettings) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v; want something of %s", name, err, text)
			}
		}
	}
}

func TestTheFirstNodeSaysHowAClusterIsSetUp(t *testing.T) {
	dir := fleetDir(t)
	if err := cluster.Agree(t.Context(), dir, cluster.SettingsOf("first/ID")); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Agree(t.Context(), dir, cluster.SettingsOf("second/ID")); !errors.Is(err, cluster.ErrSettings) {
		t.Errorf("the second one: %v", err)
	}
	if err := cluster.Agree(t.Context(), dir, cluster.SettingsOf("first/ID")); err != nil {
		t.Errorf("the first one again: %v", err)
	}
}
