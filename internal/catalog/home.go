package catalog

import (
	"encoding/binary"
	"hash/fnv"
	"os"
	"strings"
	"syscall"
)

// machineFiles identify the machine, real or virtual; one that cannot be read is left
// out.
var machineFiles = []string{"/etc/machine-id", "/sys/class/dmi/id/product_uuid"}

// homeOf returns a number that distinguishes the state directory of a lock file from
// every copy of it: a hash of the file's inode, of when that was made, and of the
// machine. A copy by cp, rsync or a backup has another inode; a cloned disk is on
// another machine. A clone of a virtual machine that has the identifiers of the first,
// and is started while that one runs, is not noticed.
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
