package multidb

import "time"

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
	EventReplaced                         // another file stands at its path
	EventAdopted                          // the replica's newest state took the local file's place, which is at Path now
	EventScanFailed                       // a discoverer could not list everything; ID is empty
	EventState                            // the state directory is in trouble; ID is empty
	EventWatch                            // directories are polled, since they cannot be watched; ID is empty
	EventIntegrity                        // the check of a database restored on open warns; see IntegrityCheck
	EventEmpty                            // Start found no database; Path has the discovery roots
	EventLogSetAside                      // a log was left of a file that is gone or replaced; Path is what it is called now
)

var eventNames = [...]string{"", "added", "removed", "ignored", "tier", "failed", "recovered",
	"fenced", "resync", "snapshot", "wal limit", "replaced", "adopted", "scan failed", "state", "watch", "integrity", "no database", "log set aside"}

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
	TXID     TXID   // of EventResync, EventSnapshot and EventAdopted
	Err      error  // what went wrong, if anything did
}

// unlock releases mu and then tells the events that came up under it, those of one
// database in their order, without the lock: an observer may call the Manager.
func (m *Manager) unlock() {
	for _, err := range m.trouble.Take() {
		m.events = append(m.events, Event{Type: EventState, Path: m.dir, Err: err})
	}
	if len(m.events) == 0 {
		m.mu.Unlock()
		return
	}
	mine := m.telling.Take(m.events)
	m.events = nil
	m.mu.Unlock()
	m.tellFrom(mine, 0)
}

// tellFrom tells events from the i-th on, and then what came up for their databases
// meanwhile. Where the observer panics the others are told all the same before the
// panic goes on: nobody else would, as they are claimed.
func (m *Manager) tellFrom(events []Event, i int) {
	whole := false
	defer func() {
		if !whole {
			m.tellFrom(events, i+1)
		}
	}()
	for len(events) > 0 {
		for ; i < len(events); i++ {
			m.tell(events[i])
		}
		m.mu.Lock()
		events, i = m.telling.Done(events), 0
		m.mu.Unlock()
	}
	whole = true
}

// emit tells one event. Never called with the lock held.
func (m *Manager) emit(ev Event) {
	m.mu.Lock()
	m.events = append(m.events, ev)
	m.unlock()
}

// tell tells the observer and the log.
func (m *Manager) tell(ev Event) {
	ev.Time = m.cfg.now()
	args := make([]any, 0, 10)
	if ev.ID != "" {
		args = append(args, "id", string(ev.ID))
	}
	if ev.Path != "" {
		args = append(args, "path", ev.Path)
	}
	if ev.TXID != 0 {
		args = append(args, "txid", ev.TXID)
	}
	if ev.Err != nil {
		args = append(args, "err", ev.Err)
	}
	switch ev.Type {
	case EventTier:
		m.cfg.logger.Debug("multidb: tier", append(args, "from", ev.From, "to", ev.To)...)
	case EventFailed, EventFenced, EventWALLimit, EventScanFailed, EventState, EventWatch, EventIntegrity, EventEmpty, EventLogSetAside:
		m.cfg.logger.Warn("multidb: "+ev.Type.String(), args...)
	case EventSnapshot:
		m.cfg.logger.Debug("multidb: snapshot", args...)
	default:
		m.cfg.logger.Info("multidb: "+ev.Type.String(), args...)
	}
	if m.cfg.observer != nil {
		m.cfg.observer(ev)
	}
}
