//go:build !failpoint

package failpoint

// Hit does nothing.
func Hit(string) {}

// Err returns err.
func Err(_ string, err error) error { return err }
