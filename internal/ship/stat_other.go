//go:build !linux || !(amd64 || arm64)

package ship

// StatWith takes the fingerprint of the file at path+suffix without opening it.
func StatWith(path, suffix string) (Fingerprint, error) { return statOS(path + suffix) }
