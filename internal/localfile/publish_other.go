//go:build !linux

package localfile

import "errors"

func renameNoReplace(_, _ string) error { return errors.ErrUnsupported }

func mountOf(string) (uint64, bool) { return 0, false }

func MayWriteTo(string) error { return nil }
