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

// Logs remembers which log stood beside which database, so that one that is left of
// a file is never applied to another that was put in its place: SQLite would do so,
// and spoil it. A database is known by its ID. Safe for concurrent use; no I/O is done
// under its lock.
type Logs struct {
	now func() time.Time

	mu   sync.Mutex
	logs map[string]logOf
}

// logOf is a log and the database file that it was seen beside, by their inodes. An
// inode is used again for another file, so the log's first salt tells too: it goes up
// by one each time the log is restarted, and is drawn anew for another log.
type logOf struct {
	main, wal uint64
	salt      uint32
	saltKnown bool // false: nothing was read of it since it was opened here
}

// maxUnseenRestarts is how many maxUnseenRestarts of a log nobody here may have seen.
const maxUnseenRestarts = 1 << 12

// NewLogs returns Logs that know of none. now is the clock of the names that logs get
// when they are set aside.
func NewLogs(now func() time.Time) *Logs {
	return &Logs{now: now, logs: map[string]logOf{}}
}

// Position returns what the catalog keeps of a position: the position, and then the
// inode of the log beside the database in 8 bytes, if it is known.
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

// Recall returns the position of what Position returned, in this process or an earlier
// one. It remembers the log, as the file may be exchanged while nobody looks.
func (l *Logs) Recall(id string, b []byte) (pos ship.State, err error) {
	if err = pos.UnmarshalBinary(b); err == nil || len(b) < 8 {
		return pos, err
	}
	split := len(b) - 8
	if pos.UnmarshalBinary(b[:split]) != nil {
		return pos, err
	}
	if wal := binary.LittleEndian.Uint64(b[split:]); wal != 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.logs[id] = logOf{pos.Ino, wal, pos.Salt1, true}
	}
	return pos, nil
}

// IDs returns the databases beside which a log is known.
func (l *Logs) IDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, len(l.logs))
	for id := range l.logs {
		ids = append(ids, id)
	}
	return ids
}

// Note remembers whose log it is that stands beside a database that was opened.
func (l *Logs) Note(id string, f fsid.Files) { l.note(id, f, 0, false) }

func (l *Logs) note(id string, f fsid.Files, salt uint32, salted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.logs[id]
	now := logOf{f.Main.Ino, f.WAL.Ino, salt, salted}
	if !salted && was.main == now.main && was.wal == now.wal {
		return // and may have its salt
	}
	if now.wal == 0 {
		delete(l.logs, id)
	} else if now != was {
		l.logs[id] = now
	}
}

// Forget forgets a database that is gone.
func (l *Logs) Forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.logs, id)
}

// Expel sets the log aside that was left of a file that another has taken the place
// of. It must come before the first connection to the new file. moved is what was set
// aside, under its new names.
func (l *Logs) Expel(id, path string, f fsid.Files) (moved []string, err error) {
	l.mu.Lock()
	log, known := l.logs[id]
	l.mu.Unlock()
	if !known || log.wal != f.WAL.Ino || log.main == f.Main.Ino || f.WAL.Size == 0 {
		return nil, nil
	}
	if log.saltKnown {
		salt, err := logSalt(path)
		if err != nil {
			return nil, err
		}
		if salt-log.salt > maxUnseenRestarts {
			return nil, nil // another log, which got the same inode
		}
	}
	// The journal is of a file that was put there.
	if moved, err = l.setAside(path, "replaced", "-shm", "-wal"); err == nil {
		l.Forget(id)
	}
	return moved, err
}

// ExpelOrphans sets aside what is left beside a database file that is gone, before
// another one is made in its place: it would be applied to that.
func (l *Logs) ExpelOrphans(path string) (moved []string, err error) {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return l.setAside(path, "lost", "-shm", "-wal", "-journal")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// logSalt is the first salt in a log's header (https://www.sqlite.org/fileformat.html).
// The log carries no locks. One that has no header yet has no frames either.
func logSalt(path string) (uint32, error) {
	f, err := os.Open(path + "-wal")
	if err != nil {
		return 0, err
	}
	var h [20]byte
	_, err = f.ReadAt(h[:], 0)
	return binary.BigEndian.Uint32(h[16:]), errors.Join(err, f.Close())
}

// setAside renames what stands beside a database to names that say when and why. They
// end as before, so that no discoverer takes them for databases, and who has the file
// they belong to can put it beside them. The index of the log must come first: without
// it SQLite reads the log anew, with one of another log it would not. A log that a
// crash leaves without its index is set aside again.
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

// LogSetAside is the event of a log that was set aside, under the name given.
func LogSetAside(path, name string) Event {
	return Event{Type: EventLogSetAside, Path: name,
		Err: fmt.Errorf("it belonged to a file that is no longer at %s, and may have commits of it that are nowhere else", path)}
}

// setLogAside sets a log aside that belongs to another file, as Logs.Expel.
func (x *run) setLogAside(f fsid.Files) error {
	moved, err := x.cfg.Logs.Expel(x.in.ID, x.in.Path, f)
	for _, name := range moved {
		x.event(LogSetAside(x.in.Path, name))
	}
	return err
}
