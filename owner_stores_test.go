package multidb_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

func TestATenantIsHandedOverThereAndBackOverEveryReplica(t *testing.T) {
	t.Parallel()
	for store, replica := range ownershipStores {
		t.Run(store, func(t *testing.T) {
			r := replica(t)
			boxes := []*ownBox{newBox(t, r), newBox(t, r)}
			for _, b := range boxes {
				// Which runs come between a hand-over and the next use is the test's to say.
				b.start(onOpen, multidb.WithSyncInterval(time.Hour), multidb.WithColdSyncInterval(time.Hour),
					multidb.WithScanInterval(time.Hour), multidb.WithWatch(false))
			}
			var want []string
			for i := range 3 {
				for j, b := range boxes {
					if i+j > 0 { // the other's commits are there before its own
						b.equal("on open", dump(t, b), want)
					}
					v := fmt.Sprint(i, " on machine ", j)
					b.insert(v)
					want = append(want, v)
					if err := b.m.HandOver(t.Context(), "x"); err != nil {
						t.Fatal(err)
					}
					if i > 0 { // it sees that nobody has written since, which tells nothing of later
						multidb.RunOnce(t.Context(), b.m, "x")
					}
					b.equal("the newest restore", b.newest(0), slices.Clone(want))
				}
			}
			for _, b := range boxes {
				if b.count(multidb.EventFenced) != 0 {
					t.Error("a machine was fenced by an orderly hand-over")
				}
				b.well()
			}
		})
	}
}
