package fsid

import (
	"os"
	"syscall"
	"time"
)

// Fingerprint identifies the content of a file at one time, by stat alone. No program can
// set the ctime back, so that an old copy of the file with its old mtime differs too.
type Fingerprint struct {
	Ino                uint64
	Size, Mtime, Ctime int64 // bytes, nanoseconds
}

// IsZero reports whether there is no fingerprint.
func (p Fingerprint) IsZero() bool { return p == Fingerprint{} }

// Age returns how long before now the file was last changed, by its time stamps.
func (p Fingerprint) Age(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, max(p.Mtime, p.Ctime)))
}

// Tick returns an upper bound of the granularity of the clock that made the stamps. If both
// stamps are whole seconds, the file system may keep no more (ext4 with inodes of 128
// bytes, HFS+, FAT).
func (p Fingerprint) Tick() time.Duration {
	if p.Mtime%int64(time.Second) == 0 && p.Ctime%int64(time.Second) == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// Racy reports whether the stamps are so young that a later write may not change them. Git
// uses the word for the same problem of its index.
func (p Fingerprint) Racy(now time.Time) bool { return p.Age(now) <= p.Tick() }

// Ahead reports whether the stamps are in the future, where no write puts them.
func (p Fingerprint) Ahead(now time.Time) bool { return p.Age(now) < -p.Tick() }

// Stat takes the fingerprint of a file without opening it.
func Stat(path string) (Fingerprint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Fingerprint{}, err
	}
	return FingerprintOf(info), nil
}

// FingerprintOf returns the fingerprint of the file that info describes.
func FingerprintOf(info os.FileInfo) Fingerprint {
	p := Fingerprint{Size: info.Size(), Mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.Ino = st.Ino
		p.Ctime = ctime(st)
	}
	return p
}
