package catalog

import (
	"encoding/binary"
	"hash/fnv"
	"os"
	"strings"
	"syscall"
)

// machineFiles name the machine, or the virtual one; what cannot be read is left
// out.
var machineFiles = []string{"/etc/machine-id", "/sys/class/dmi/id/product_uuid"}

// homeOf tells the state directory that a lock file is in from every copy of it:
// the file's inode and when that was made, and the machine. A copy by cp, rsync or a
// backup has another inode; a disk that was cloned with all in it is on another
// machine. A clone of a virtual machine that has the identifiers of the first, and
// is started while that one runs, is not noticed.
func homeOf(lock *os.File) uint64 {
	h := fnv.New64a()
	var b [16]byte
	if fi, err := lock.Stat(); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			binary.LittleEndian.PutUint64(b[:], st.Ino)
		}
	}
	binary.LittleEndian.PutUint64(b[8:], uint64(birthTime(lock)))
	_, _ = h.Write(b[:]) // a hash has no errors
	for _, name := range machineFiles {
		if id, err := os.ReadFile(name); err == nil {
			_, _ = h.Write([]byte(strings.TrimSpace(string(id)) + "\n"))
		}
	}
	return h.Sum64()
}
