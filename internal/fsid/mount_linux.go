package fsid

import "golang.org/x/sys/unix"

// mountOf returns which mount a path is on. ok is false if the kernel (before 5.8) does not
// say so.
func mountOf(path string) (id uint64, ok bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, false
	}
	return st.Mnt_id, true
}
