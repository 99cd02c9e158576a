package fsid

import "syscall"

const sysStatAt = syscall.SYS_FSTATAT
