//go:build !linux && !darwin

package drill

import "math"

// Free is how many bytes the file system of a directory has left for this process. It is not
// known here: a drill that finds the disk full is tried again later.
func Free(string) (int64, error) { return math.MaxInt64, nil }
