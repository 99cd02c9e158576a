//go:build !linux || !(amd64 || arm64)

package ship

// FileID is which file a path leads to: its device and inode. A missing file's
// error is fs.ErrNotExist.
func FileID(path string) (dev, ino uint64, err error) { return fileIDOS(path) }
