package multidb

import (
	"time"

	"github.com/multidb-go/multidb/internal/fleet"
)

// EventType says what happened.
type EventType uint8

// The events. Those with an error carry it in Err.
const (
	EventAdded       EventType = iota + 1 // a database was found or created
	EventRemoved                          // its file is gone; the replica stays
	EventIgnored                          // a file was refused: no database, or a second name of one
	EventTier                             // it changed tier: From, To
	EventFailed                           // shipping began to fail
	EventRecovered                        // shipping works again
	EventFenced                           // another writer owns the prefix: replication has stopped
	EventResync                           // its whole state was shipped, since nothing less was provable
	EventSnapshot                         // a snapshot was written
	EventWALLimit                         // its WAL, or all together, passed the limit; it was checkpointed unshipped
	EventReplaced                         // another file is at its path
	EventAdopted                          // the replica's newest state took the local file's place, which is at Path now
	EventScanFailed                       // a discoverer could not list everything; ID is empty
	EventState                            // the state directory is in trouble; ID is empty
	EventWatch                            // directories are polled, since they cannot be watched; ID is empty
	EventIntegrity                        // the check of a database restored on open warns; see IntegrityCheck
	EventEmpty                            // Start found no database; Path has the discovery roots
	EventLogSetAside                      // a log was left of a file that is gone or replaced; Path is what it is called now

	// Those of the fleet log have its Epoch, and no ID.

	EventFleetLogBegun     // this process writes the log from here on; Path is its directory at the replica
	EventFleetLogTakenOver // it has ended the log of Epoch; Path is the state directory of whoever wrote that
	EventFleetLogFinished  // what a log that was taken over had is in the prefixes; its objects are deleted
	EventFleetLogFenced    // another process has ended this one's log, Err says which: every database is fenced

	// Those of a tenant's life.

	EventEvicted   // its local file is deleted; the next Acquire brings it back, see WithMaxDisk
	EventWithdrawn // Remove has taken it out of service
	EventUndeleted // Undelete has put it into service again
	EventErased    // nothing is left of it; Err says what is, if anything
	EventRenamed   // it is called ID now, and is at Path
	EventForked    // it was made of another one
	// And of one database again.

	EventPolicy // what WithPolicy says of a database is refused: the Manager's options count for it
	// Those of WithDrills.

	EventDrill       // its backup was restored and found good, up to TXID
	EventDrillFailed // its backup does not restore, or is damaged: ErrUnproved
	// Those of WithCluster have Shards, and no ID.

	EventGained    // this node serves these shards from here on
	EventMoved     // it has given these shards to the node that Path names
	EventMoveStuck // it could not: Err says which databases are in the way; it tries again
	EventSetAside  // another node has taken over the database ID: the local file, with commits that no Sync promised, is at Path now
)

var eventNames = [...]string{"", "added", "removed", "ignored", "tier", "failed", "recovered",
	"fenced", "resync", "snapshot", "wal limit", "replaced", "adopted", "scan failed", "state", "watch", "integrity", "no database", "log set aside",
	"fleet log begun", "fleet log taken over", "fleet log finished", "fleet log fenced",
	"evicted", "taken out of service", "undeleted", "erased", "renamed", "forked", "policy",
	"drill", "drill failed", "shards gained", "shards moved", "shards not moved", "set aside"}

func (t EventType) String() string {
	if int(t) < len(eventNames) {
		return eventNames[t]
	}
	return "unknown"
}

// Event is one change of state. See WithObserver.
type Event struct {
	Type     EventType
	Time     time.Time
	ID       ID     // empty where the event is the Manager's own
	Path     string // of the file, if known
	From, To Tier   // of EventTier
	TXID     TXID   // of EventResync, EventSnapshot, EventAdopted, EventEvicted and EventDrill
	Epoch    uint64 // of the events of a fleet log
	Shards   int    // of those of WithCluster
	Err      error  // what went wrong, if anything did
	Why      string // of EventResync: what kept multidb from proving that less is new
	Bytes    int64  // of EventResync: how many it has written
}

// deliver passes an event on to the log and the observer. No lock is held: an observer
// may call the Manager.
func (m *Manager) deliver(of fleet.Event) {
	ev := Event{
		Type: EventType(of.Type), Time: m.cfg.now(), ID: ID(of.ID), Path: of.Path,
		From: tierOf(of.From), To: tierOf(of.To), TXID: of.TXID, Epoch: of.Epoch, Shards: of.Shards, Err: of.Err,
		Why: of.Why, Bytes: of.Bytes,
	}
	if of.Op != "" {
		ev.Err = opError(of.Op, ev.ID, of.Err)
	}
	args := make([]any, 0, 12)
	if ev.ID != "" {
		args = append(args, "id", string(ev.ID))
	}
	if ev.Path != "" {
		args = append(args, "path", ev.Path)
	}
	if ev.TXID != 0 {
		args = append(args, "txid", ev.TXID)
	}
	if ev.Epoch != 0 {
		args = append(args, "epoch", ev.Epoch)
	}
	if ev.Shards != 0 {
		args = append(args, "shards", ev.Shards)
	}
	if ev.Why != "" {
		args = append(args, "why", ev.Why, "bytes", ev.Bytes)
	}
	if ev.Err != nil {
		args = append(args, "err", ev.Err)
	}
	switch ev.Type {
	case EventTier:
		m.cfg.logger.Debug("multidb: tier", append(args, "from", ev.From, "to", ev.To)...)
	case EventFailed, EventFenced, EventWALLimit, EventScanFailed, EventState, EventWatch, EventIntegrity, EventEmpty, EventLogSetAside, EventFleetLogFenced, EventPolicy, EventDrillFailed, EventMoveStuck, EventSetAside:
		m.cfg.logger.Warn("multidb: "+ev.Type.String(), args...)
	case EventSnapshot, EventEvicted, EventDrill:
		m.cfg.logger.Debug("multidb: "+ev.Type.String(), args...)
	default:
		m.cfg.logger.Info("multidb: "+ev.Type.String(), args...)
	}
	if ev.Type == EventFailed && ReasonOf(ev.Err) == ReasonDiskFull {
		m.evictor.Squeeze()
	}
	if m.cfg.observer != nil {
		m.cfg.observer(ev)
	}
}
