//go:build !linux || !(amd64 || arm64)

package fsid

// At returns which file a path leads to. If there is no file, the error is fs.ErrNotExist.
func At(path string) (ID, error) {
	id, _, err := Look(path)
	return id, err
}

// StatWith takes the fingerprint of the file at path+suffix without opening it.
func StatWith(path, suffix string) (Fingerprint, error) { return Stat(path + suffix) }
