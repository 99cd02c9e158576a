package catalog

import (
	"os"

	"golang.org/x/sys/unix"
)

// birthTime is when the file was made, in Unix nanoseconds; 0 if the file system
// does not say.
func birthTime(f *os.File) int64 {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}
