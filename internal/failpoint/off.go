//go:build !failpoint

package failpoint

import "time"

// Hit does nothing.
func Hit(string) {}

// Duration returns d.
func Duration(_ string, d time.Duration) time.Duration { return d }

// Err returns err.
func Err(_ string, err error) error { return err }
