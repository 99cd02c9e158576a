package multidb_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestARootThatWasCopiedWithItsStateIsTakenInByTheFirstScan(t *testing.T) {
	for name, more := range map[string][]multidb.Option{"": nil, "with restore on open": {multidb.WithRestoreOnOpen()}} {
		t.Run(name, func(t *testing.T) {
			rep := multidbtest.NewReplica()
			opts := append([]multidb.Option{multidb.WithReplica(rep), multidb.WithWatch(false), multidb.WithScanInterval(time.Hour)}, more...)
			f := start(t, newTree(t, 1, 2), opts...)
			f.insert(exchangedID, "x")
			f.sync(exchangedID)
			f.sync("project0/db1")
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			root := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(root, os.DirFS(f.root)); err != nil {
				t.Fatal(err)
			}
			g := start(t, root, opts...)
			g.sync(exchangedID) // it is what the replica has
			g.insert(exchangedID, "y")
			g.sync(exchangedID)
			g.wantRows("the newest restore", g.restored(exchangedID, multidb.RestoreOptions{}), "0", "1", "2", "x", "y")
			for _, id := range []multidb.ID{exchangedID, "project0/db1"} {
				if st, err := g.m.Status(id); err != nil || !strings.HasPrefix(st.Path, root) {
					t.Errorf("%s is at %s, %v", id, st.Path, err)
				}
			}
			if g.events.has(multidb.EventIgnored) {
				t.Error("a file was refused")
			}
			if err := g.close(); err != nil {
				t.Fatal(err)
			}
			// What stays behind is as it was.
			f.wantRows("the file that was copied", rows(t, f.path()), "0", "1", "2", "x")
			h := start(t, root, opts...)
			if st, err := h.m.Status(exchangedID); err != nil || !strings.HasPrefix(st.Path, root) {
				t.Errorf("after another start it is at %s, %v", st.Path, err)
			}
		})
	}
}
