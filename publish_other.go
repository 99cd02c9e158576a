//go:build !linux

package multidb

import "errors"

func renameNoReplace(_, _ string) error { return errors.ErrUnsupported }

func mountOf(string) (uint64, bool) { return 0, false }

func mayWriteTo(string) error { return nil }
