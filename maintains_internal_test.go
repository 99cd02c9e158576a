package multidb

import (
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/catalog"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

// TestWhoDidNotWriteLastCompactsAndDeletesNothing: two that keep one prefix in order
// would delete what the other counts on. It has no client: a request would panic.
func TestWhoDidNotWriteLastCompactsAndDeletesNothing(t *testing.T) {
	m := &Manager{cfg: defaults(), sessions: &catalog.Sessions{}}
	m.age = &ageClock{keep: m.cfg.retention}
	long := time.Now().Add(-30 * 24 * time.Hour)
	rep := &replica{needed: true}
	for txid := ltx.TXID(1); txid <= 3; txid++ {
		rep.inv.Add(&ltx.FileInfo{MinTXID: txid, MaxTXID: txid, Size: 100, CreatedAt: long})
		rep.db.State.TXID = txid
	}
	rep.db.State.Origin = ship.Origin{Writer: 7<<32 | 1, Sum: 1}
	e := &entry{work: &work{rep: rep, verified: true, state: rep.db.State}}
	if err := m.compact(t.Context(), e, true); err != nil || rep.due {
		t.Errorf("compact: %v, due %v", err, rep.due)
	}
	if err := m.retain(t.Context(), e); err != nil {
		t.Errorf("retain: %v", err)
	}
	if at := m.nextRetention(e.work); !at.IsZero() {
		t.Errorf("it deletes at %v", at)
	}
}
