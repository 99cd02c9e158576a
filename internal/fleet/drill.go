package fleet

import (
	"github.com/multidb-go/multidb/internal/registry"
	"github.com/superfly/ltx"
)

// Backup is what is known of the backup of a database.
type Backup struct {
	registry.Database
	TXID ltx.TXID // the last one that the replica acknowledged; 0: another writer may have gone on
	Size int64    // of the file, about
}

// Backup returns what is known of the backup of a database; false: it has none, or the
// prefix is not its own.
func (f *Fleet) Backup(id string) (b Backup, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.reg.Get(id)
	if e == nil || e.health.txid == 0 && !e.evicted || e.reg.PrefixTaken {
		return b, false
	}
	b = Backup{Database: e.Database(), TXID: e.health.txid, Size: e.size.file()}
	if e.item.Running() { // its position is the run's: what the log has may be in the file soon
		b.Size += e.health.walSize
	} else { // what is not on this disk has a size too
		pos := e.peekLocked().Position()
		b.Size = max(b.Size, int64(pos.Commit)*int64(pos.PageSize))
	}
	if e.reg.Refused != nil || f.fence != nil {
		b.TXID = 0
	}
	return b, true
}
