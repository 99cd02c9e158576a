package ship

import (
	"os"
	"syscall"
)

func fileIDOS(path string) (dev, ino uint64, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), st.Ino, nil
	}
	return 0, 0, nil
}
