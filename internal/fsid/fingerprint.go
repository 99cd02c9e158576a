package fsid

import (
	"os"
	"syscall"
	"time"
)

// Fingerprint identifies one content of a file by stat alone. No program can
// set ctime back, so an old backup copied in with its old mtime differs too.
type Fingerprint struct {
	Ino                uint64
	Size, Mtime, Ctime int64 // bytes, nanoseconds
}

// IsZero reports whether there is no fingerprint.
func (p Fingerprint) IsZero() bool { return p == Fingerprint{} }

// Age returns how long ago the file last changed, by its own stamps.
func (p Fingerprint) Age(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, max(p.Mtime, p.Ctime)))
}

// Tick bounds the granularity of the clock that made the stamps. Where a file system
// keeps whole seconds (ext4 with inodes of 128 bytes, HFS+, FAT) both are whole.
func (p Fingerprint) Tick() time.Duration {
	if p.Mtime%int64(time.Second) == 0 && p.Ctime%int64(time.Second) == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// Racy reports whether the stamps are too young for a later write to be sure to
// change them: as in git's index.
func (p Fingerprint) Racy(now time.Time) bool { return p.Age(now) <= p.Tick() }

// Ahead reports whether the stamps lie in the future, where no write puts them.
func (p Fingerprint) Ahead(now time.Time) bool { return p.Age(now) < -p.Tick() }

// Stat takes the fingerprint of a file without opening it.
func Stat(path string) (Fingerprint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Fingerprint{}, err
	}
	return FingerprintOf(info), nil
}

// FingerprintOf returns the fingerprint that a stat found.
func FingerprintOf(info os.FileInfo) Fingerprint {
	p := Fingerprint{Size: info.Size(), Mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.Ino = st.Ino
		p.Ctime = ctime(st)
	}
	return p
}
