package s3

import (
	"fmt"
	"io/fs"
	"unicode/utf8"
)

// CheckName refuses a prefix that listings and DeleteObjects cannot carry: they
// are XML 1.0, which has no way to write some characters and reads a carriage
// return as a line feed. Objects under such a name could be written, and never
// be found again. The error wraps fs.ErrInvalid.
func CheckName(prefix string) error {
	if !utf8.ValidString(prefix) {
		return fmt.Errorf("%w: %q is not UTF-8", fs.ErrInvalid, prefix)
	}
	for _, r := range prefix {
		if r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF {
			return fmt.Errorf("%w: %q has the character %U, which S3's listings cannot carry: rename it", fs.ErrInvalid, prefix, r)
		}
	}
	return nil
}
