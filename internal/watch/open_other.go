//go:build !linux

package watch

import "errors"

// Open refuses: kqueue opens every file of a watched directory, and closing a
// descriptor of a database drops the process's locks on it.
func Open() (Source, error) {
	return nil, errors.New("this system cannot watch a directory without opening its files")
}
