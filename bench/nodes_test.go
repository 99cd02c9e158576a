package main

import (
	"io"
	"testing"
)

// TestTenantsAtRestMoveWithoutARequestEach runs the short form of nodes-join, which is the same in all but the number of
// tenants. Its times are not looked at: they are the machine's.
func TestTenantsAtRestMoveWithoutARequestEach(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute and a half")
	}
	b, err := newBench(settings{short: true, runs: 1, dir: t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // before t.Context ends, which would kill the S3 server
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	sc := nodesJoinScenario(true)
	f, err := b.one(t.Context(), sc, sc.sizes[0], 0, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sc.rows {
		if _, ok := f[r.key]; !ok {
			t.Errorf("%q was not measured", r.key)
		}
	}
	for _, kind := range []string{"2", "3", "drain", "again"} {
		if n := f[kind+" get level 0"] + f[kind+" list prefix"]; n > 0 || f["each-"+kind] > 1 || f["shards-"+kind] == 0 {
			t.Errorf("%s: %v requests for a tenant that moved, %v of them for prefixes: %v", kind, f["each-"+kind], n, f)
		}
	}
}
