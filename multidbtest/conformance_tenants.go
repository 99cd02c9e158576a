package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// TestTenantLister proves that a factory that is a multidb.TenantLister lists
// what was written through it, and nothing else. newFactory is as in
// TestReplicaFactory.
func TestTenantLister(t *testing.T, newFactory func(t *testing.T) multidb.ReplicaFactory) {
	listed := func(t *testing.T, f multidb.ReplicaFactory) map[multidb.ID]multidb.Database {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
		defer cancel()
		found := map[multidb.ID]multidb.Database{}
		for db, err := range multidb.ListTenants(ctx, f) {
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := found[db.ID]; twice {
				t.Errorf("%q is listed twice", db.ID)
			}
			found[db.ID] = db
		}
		return found
	}
	// put makes the databases p<i>/d<j>, with or without a metadata.json.
	put := func(t *testing.T, f multidb.ReplicaFactory, projects, databases int, metadata bool) (want []multidb.ID) {
		t.Helper()
		for i := range projects {
			for j := range databases {
				db := testDatabase(fmt.Sprint("p", i), fmt.Sprint("d", j))
				want = append(want, db.ID)
				c, err := f.ReplicaClient(db)
				if err != nil {
					t.Fatal(err)
				}
				(&replicaTest{T: t, ctx: t.Context(), factory: f}).put(c, 0, ltx.TXID(1), ltx.TXID(1))
				if !metadata {
					continue
				}
				data := fmt.Sprintf(`{"format":1,"id":%q,"vars":{"project":"p%d","database":"d%d"},"path":%q}`, db.ID, i, j, db.Path)
				if err := c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
		}
		slices.Sort(want)
		return want
	}
	// check compares the IDs, which come from the metadata, and always the
	// places: each database that is listed leads to one that was written.
	check := func(t *testing.T, f multidb.ReplicaFactory, want []multidb.ID, ids bool) {
		t.Helper()
		found := listed(t, f)
		if got := slices.Sorted(maps.Keys(found)); ids && !slices.Equal(got, want) || len(got) != len(want) {
			t.Fatalf("listed %q, want %q", got, want)
		}
		for _, db := range found {
			files, err := multidb.ReplicaFiles(t.Context(), f, db, false)
			if err != nil || len(files) != 1 {
				t.Errorf("%q as listed has %d files, %v", db.ID, len(files), err)
			}
		}
		p, ok := f.(multidb.ReplicaPrefixer)
		if !ok {
			return
		}
		prefixes := map[string]bool{}
		for _, db := range found {
			prefix, err := p.Prefix(db)
			if err != nil {
				t.Error(err)
			}
			prefixes[prefix] = true
		}
		if len(prefixes) != len(want) {
			t.Errorf("%d databases lead to %d places", len(want), len(prefixes))
		}
	}
	t.Run("what has metadata is listed under its ID", func(t *testing.T) {
		f := newFactory(t)
		check(t, f, put(t, f, 5, 9, true), true)
	})
	t.Run("what litestream wrote is listed by its place", func(t *testing.T) {
		f := newFactory(t)
		check(t, f, put(t, f, 2, 2, false), false)
	})
	t.Run("a listing can be left at any moment", func(t *testing.T) {
		f := newFactory(t)
		put(t, f, 3, 3, true)
		for _, err := range multidb.ListTenants(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	})
	t.Run("a context that has ended is the last pair", func(t *testing.T) {
		f := newFactory(t)
		put(t, f, 1, 1, true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var last error
		for _, err := range multidb.ListTenants(ctx, f) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("the last error is %v, want context.Canceled", last)
		}
	})
}
