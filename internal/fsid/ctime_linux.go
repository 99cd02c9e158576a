package fsid

import "syscall"

// ctime is when the file's inode was last changed, in Unix nanoseconds.
func ctime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }
