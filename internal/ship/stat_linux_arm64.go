package ship

import "syscall"

const sysStatAt = syscall.SYS_FSTATAT
