package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
)

// Logs remembers which log belongs to which database file. If another file is put in the
// place of one whose log is still there, SQLite would apply the log to the new file and
// corrupt it; SetAsideForeign prevents that. Databases are identified by their ID. Safe for
// concurrent use; no I/O is done under mu.
type Logs struct {
	now func() time.Time

	aside sync.Mutex // held while a log is set aside

	mu   sync.Mutex
	logs map[string]logOf
}

// logOf is a log and the database file beside which it was seen, by their inodes. As the
// inode may be given to another file later, the log's first salt identifies it too: a
// restart of the log adds one to it, and a new log gets a random one.
type logOf struct {
	main, wal uint64
	salt      uint32
	saltKnown bool // false: the pool has opened the database, and no run has read the log since
}

// maxUnseenRestarts is how often a log may have been restarted since it was seen, and still
// count as the same log.
const maxUnseenRestarts = 1 << 12

// NewLogs returns Logs that know of no log. now is the clock for the names that logs get
// when they are set aside.
func NewLogs(now func() time.Time) *Logs {
	return &Logs{now: now, logs: map[string]logOf{}}
}

// Position encodes a position for the catalog: the position, and then the inode of the log
// beside the database in 8 bytes, if it is known.
func (l *Logs) Position(id string, pos ship.State) ([]byte, error) {
	b, err := pos.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if log := l.logs[id]; log.saltKnown && log.main == pos.Ino && log.wal != 0 {
		b = binary.LittleEndian.AppendUint64(b, log.wal)
	}
	return b, nil
}

// Recall decodes what Position returned, in this process or an earlier one. It also
// remembers the log, because the file may have been exchanged while no process was running.
func (l *Logs) Recall(id string, b []byte) (pos ship.State, err error) {
	pos, wal, err := DecodePosition(b)
	if wal != 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.logs[id] = logOf{pos.Ino, wal, pos.Salt1, true}
	}
	return pos, err
}

// DecodePosition decodes what Position returned. wal is the number of the log's file; 0: it was not known.
func DecodePosition(b []byte) (pos ship.State, wal uint64, err error) {
	if err = pos.UnmarshalBinary(b); err == nil || len(b) < 8 {
		return pos, 0, err
	}
	split := len(b) - 8
	if pos.UnmarshalBinary(b[:split]) != nil {
		return pos, 0, err
	}
	return pos, binary.LittleEndian.Uint64(b[split:]), nil
}

// IDs returns the databases of which a log is known.
func (l *Logs) IDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, len(l.logs))
	for id := range l.logs {
		ids = append(ids, id)
	}
	return ids
}

// Note remembers the log beside a database that was opened.
func (l *Logs) Note(id string, f fsid.Files) { l.note(id, f, 0, false) }

func (l *Logs) note(id string, f fsid.Files, salt uint32, saltKnown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.logs[id]
	now := logOf{f.Main.Ino, f.WAL.Ino, salt, saltKnown}
	if !saltKnown && was.main == now.main && was.wal == now.wal {
		return // what is known may include the salt
	}
	if now.wal == 0 {
		delete(l.logs, id)
	} else if now != was {
		l.logs[id] = now
	}
}

// Forget forgets the log of a database.
func (l *Logs) Forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.logs, id)
}

// SetAsideForeign sets a log aside if another file has taken the place of the file that it belongs
// to. It must be called before the first connection to the new file. moved has the new
// names of what was set aside. Of several callers with the same f one sets it aside: the
// others must not find what the new file's first connection has put in its place.
func (l *Logs) SetAsideForeign(id, path string, f fsid.Files) (moved []string, err error) {
	if _, foreign := l.foreign(id, f); !foreign {
		return nil, nil // as nearly always, so that nobody waits for another database's log
	}
	l.aside.Lock()
	defer l.aside.Unlock()
	log, foreign := l.foreign(id, f)
	if !foreign {
		return nil, nil // another caller was faster
	}
	if log.saltKnown {
		salt, err := logSalt(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // its last connection was closed meanwhile
		} else if err != nil {
			return nil, err
		}
		if salt-log.salt > maxUnseenRestarts {
			return nil, nil // it is another log, which got the same inode
		}
	}
	// A journal is left where it is: it belongs to the new file.
	if moved, err = l.setAside(path, "replaced", "-shm", "-wal"); err == nil {
		l.Forget(id)
	}
	return moved, err
}

// foreign reports whether what is known of a database's log, and what stat said, make the
// log that of another file.
func (l *Logs) foreign(id string, f fsid.Files) (logOf, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	log, known := l.logs[id]
	return log, known && log.wal == f.WAL.Ino && log.main != f.Main.Ino && f.WAL.Size != 0
}

// SetAsideOrphans sets aside what is left beside the path of a database file that no longer
// exists. It must be called before another file is made there, to which SQLite would apply
// what is left.
func (l *Logs) SetAsideOrphans(path string) (moved []string, err error) {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return l.setAside(path, "lost", "-shm", "-wal", "-journal")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// logSalt reads the first salt in a log's header (https://www.sqlite.org/fileformat.html).
// The log carries no locks, so that it may be opened. One without a header has no frames.
func logSalt(path string) (uint32, error) {
	f, err := os.Open(path + "-wal")
	if err != nil {
		return 0, err
	}
	var h [20]byte
	_, err = f.ReadAt(h[:], 0)
	return binary.BigEndian.Uint32(h[16:]), errors.Join(err, f.Close())
}

// setAside renames the files beside a database to names that say when and why. The names
// keep their suffixes, so that no discoverer takes the files for databases, and whoever has
// the database file that they belong to can put it beside them. The -shm file must come
// first: without it, SQLite reads the whole log, but it would believe the -shm file of
// another log. If a crash comes between the two, the log is set aside at the next call.
func (l *Logs) setAside(path, why string, suffixes ...string) (moved []string, err error) {
	base := fmt.Sprintf("%s.%s-%s", path, why, l.now().UTC().Format("20060102T150405.000000000Z"))
	for _, suffix := range suffixes {
		err := os.Rename(path+suffix, base+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return moved, fmt.Errorf("set aside what was left of the file that was at %s: %w", path, err)
		}
		if suffix != "-shm" {
			moved = append(moved, base+suffix)
		}
	}
	return moved, durable.SyncDir(filepath.Dir(path))
}

// LogSetAside returns the event of a log that was set aside under a new name.
func LogSetAside(path, name string) Event {
	return Event{Type: EventLogSetAside, Path: name,
		Err: fmt.Errorf("it belonged to a file that is no longer at %s, and may have commits of it that are nowhere else", path)}
}

// setLogAside calls Logs.SetAsideForeign, and reports an event for each file that it has set aside.
func (x *run) setLogAside(f fsid.Files) error {
	moved, err := x.cfg.Logs.SetAsideForeign(x.in.ID, x.in.Path, f)
	for _, name := range moved {
		x.event(LogSetAside(x.in.Path, name))
	}
	return err
}
