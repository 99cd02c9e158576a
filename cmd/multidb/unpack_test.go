package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// own starts a Manager that replicates the fleet by a fleet log, and unpacks nothing by
// itself. It ends with the test.
func (f *fleet) own(t *testing.T, replica multidb.ReplicaFactory, log string) *multidb.Manager {
	t.Helper()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(f.pattern)), multidb.WithReplica(replica),
		multidb.WithStateDir(filepath.Join(f.root, ".owner")), multidb.WithHotDuration(time.Hour),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: log, UnpackInterval: time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.sync(t, m)
	return m
}

// sync waits until everything is durable.
func (f *fleet) sync(t *testing.T, m *multidb.Manager) {
	t.Helper()
	for _, id := range f.ids {
		if _, err := m.Sync(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// change adds a row to every database.
func (f *fleet) change(t *testing.T) {
	t.Helper()
	for _, id := range f.ids {
		write(t, f.path(id), "INSERT INTO t (v) VALUES ('later')")
	}
}

func TestEveryCommandReadsTheFleetLogWithThePrefixes(t *testing.T) {
	f, s := newFleet(t, 2, 2), newStore(t)
	f.own(t, s.replica(t), "fleet") // it is in the log alone: nothing leads there but the path
	source := []string{"-bucket", "fleet", "-path", template}
	with := func(args ...string) []string { return append(args, source...) }

	if p := invoke(t, s.env, with("ls", "-fleet-log", "none")...).start().want(1, "there is no database", "without its fleet log"); len(p.records()) != 0 {
		t.Fatal("something is unpacked, so that the test proves nothing")
	}
	var ids []string
	for _, r := range invoke(t, s.env, with("ls")...).start().want(0).records() {
		ids = append(ids, r["id"].(string))
	}
	if want := []string{"project0/db0", "project0/db1", "project1/db0", "project1/db1"}; !slices.Equal(ids, want) {
		t.Errorf("ls: %q, want %q", ids, want)
	}
	dir := t.TempDir()
	invoke(t, s.env, with("restore-all", "-o", dir)...).start().want(0, "4 restored, 0 failed")
	f.equals(t, dir)
	invoke(t, s.env, with("verify")...).start().want(0, "4 restore, 0 do not")
	invoke(t, s.env, with("verify", "-fleet-log", "none")...).start().want(1, "there is no database", "without its fleet log")
	out := filepath.Join(t.TempDir(), "out.db")
	invoke(t, s.env, with("restore", "project1/db0", "-o", out)...).start().want(0)
	if got, want := rowsOf(t, out), rowsOf(t, f.path("project1/db0")); !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
	if all := invoke(t, s.env, with("snapshots", "project1/db0")...).start().want(0).records(); len(all) != 1 || all[0]["whole"] != true {
		t.Errorf("snapshots: %v", all)
	}
	invoke(t, s.env, with("ls", "-fleet-log", "/fleet")...).start().want(2, "want a relative path")
	if p := invoke(t, s.env, with("ls", "-fleet-log", "elsewhere")...).start().want(1, "there is no database"); len(p.records()) != 0 {
		t.Error("another log was read")
	}
}

func TestTheConfigurationLeadsToTheFleetLog(t *testing.T) {
	f := newFleet(t, 1, 2)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	file, err := os.OpenFile(cfg, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("  fleet-log: {path: logs/eu}\n"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := multidb.NewFileReplica(replica, template)
	if err != nil {
		t.Fatal(err)
	}
	m := f.own(t, r, "logs/eu")
	if p := invoke(t, nil, "config", "check", cfg).start().want(0); p.records()[0]["fleet_log"] != "logs/eu" {
		t.Error("config check says nothing of it")
	}
	out := filepath.Join(t.TempDir(), "out.db")
	invoke(t, nil, "restore", "-config", cfg, "project0/db1", "-o", out).start().want(0)
	if got, want := rowsOf(t, out), rowsOf(t, f.path("project0/db1")); !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}

	// After an unpacking metadata.json leads there too.
	for _, id := range f.ids {
		if err := m.Unpack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	f.change(t)
	f.sync(t, m)
	dir := t.TempDir()
	invoke(t, nil, "restore-all", "-dir", replica, "-o", dir).start().want(0, "2 restored")
	f.equals(t, dir)
}

// prefixesEqual fails the test unless the prefixes alone have every database as its source is.
func (f *fleet) prefixesEqual(t *testing.T, replica multidb.ReplicaFactory) {
	t.Helper()
	for _, id := range f.ids {
		project, database, _ := strings.Cut(string(id), "/")
		out := filepath.Join(t.TempDir(), "out.db")
		if err := multidb.RestoreFrom(t.Context(), multidb.IgnoreFleetLog(replica), multidb.Database{ID: id,
			Vars: []multidb.Var{{Name: "project", Value: project}, {Name: "database", Value: database}}}, multidb.RestoreOptions{OutputPath: out}); err != nil {
			t.Error(err)
			continue
		}
		if got, want := rowsOf(t, out), rowsOf(t, f.path(id)); !slices.Equal(got, want) {
			t.Errorf("the prefix of %s has %q, want %q", id, got, want)
		}
	}
}

func TestUnpackMakesThePrefixesNewestBesideARunningOwner(t *testing.T) {
	f, s := newFleet(t, 2, 3), newStore(t)
	replica := s.replica(t)
	m := f.own(t, replica, "")
	source := []string{"-bucket", "fleet", "-path", template}
	for round := range 3 {
		if round > 0 {
			f.change(t)
			f.sync(t, m)
		}
		if round == 1 { // the owner's own, in between
			if err := m.Unpack(t.Context(), f.ids[0]); err != nil {
				t.Fatal(err)
			}
			f.change(t)
			f.sync(t, m)
		}
		p := invoke(t, s.env, append([]string{"unpack", "-all"}, source...)...).start().want(0, "6 unpacked, 0 were newest, 0 failed")
		for _, r := range p.records() {
			if r["status"] != "unpacked" || r["txid"] == "" {
				t.Errorf("round %d: %v", round, r)
			}
		}
		f.prefixesEqual(t, replica)
	}
	p := invoke(t, s.env, append([]string{"unpack", "project0/db0", "project1/db2", "projekt1/db2", "-json"}, source...)...).start().
		want(3, "0 unpacked, 2 were newest, 1 failed", "the nearest: project1/db2")
	if got := p.records(); len(got) != 3 {
		t.Errorf("%d records: %v", len(got), got)
	}
	invoke(t, s.env, append([]string{"unpack", "projekt1/db2"}, source...)...).start().want(1, "the nearest: project1/db2")
	invoke(t, s.env, append([]string{"unpack"}, source...)...).start().want(2, "name databases by their IDs, or give -all")
	invoke(t, s.env, append([]string{"unpack", "-all", "-fleet-log", "none"}, source...)...).start().want(2, "there is nothing to unpack without a fleet log")

	// The owner goes on, and unpacks, compacts and closes as if nothing had happened.
	f.change(t)
	f.sync(t, m)
	for _, id := range f.ids {
		if err := m.Unpack(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	f.prefixesEqual(t, replica)
	for st := range m.All() {
		if st.Err != nil {
			t.Errorf("%s: %v", st.ID, st.Err)
		}
	}
}

func TestUnpackFailsForThoseThatCannotBeWritten(t *testing.T) {
	f, s := newFleet(t, 1, 2), newStore(t)
	f.own(t, s.replica(t), "")
	s.setHold(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "project0/db1/") {
			w.WriteHeader(http.StatusForbidden)
			return false
		}
		return true
	})
	source := []string{"-bucket", "fleet", "-path", template}
	p := invoke(t, s.env, append([]string{"unpack", "-all"}, source...)...).start().want(3, "1 unpacked, 0 were newest, 1 failed", "multidb: project0/db1: ")
	if got := p.records(); len(got) != 2 {
		t.Errorf("%d records: %v", len(got), got)
	}
	invoke(t, s.env, append([]string{"unpack", "project0/db1"}, source...)...).start().want(1, "0 unpacked, 0 were newest, 1 failed", "every database failed")
	s.setHold(nil)
	invoke(t, s.env, append([]string{"unpack", "-all"}, source...)...).start().want(0, "1 unpacked, 1 were newest, 0 failed")
}

func TestWhoMayOnlyReadThePrefixesReadsThem(t *testing.T) {
	f, s := newFleet(t, 1, 2), newStore(t)
	f.ship(t, s.replica(t))
	s.setHold(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Query().Get("prefix"), "fleet/") {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"))
			return false
		}
		return true
	})
	source := []string{"-bucket", "fleet", "-path", template}
	dir := t.TempDir()
	invoke(t, s.env, append([]string{"restore-all", "-o", dir}, source...)...).start().want(0, "2 restored")
	f.equals(t, dir)
	// A log that was asked for by its name must be readable.
	invoke(t, s.env, append([]string{"restore", "project0/db0", "-o", filepath.Join(t.TempDir(), "x.db"), "-fleet-log", "fleet"}, source...)...).
		start().want(1, "read the fleet log fleet")
}
