package restoreall

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSegment is how long a name may become: file systems take 255 bytes, and
// SQLite adds to it.
const maxSegment = 200

// OutPath is where a database goes below the directory: its ID and
// ".db". Characters of an ID that a path should not have are written as %XX, and a
// name that is too long is cut and ends in %~ and its hash, so that two IDs never
// have one path, and none leads out of the directory.
func OutPath(id string) string {
	segments := strings.Split(id, "/")
	for i, s := range segments {
		segments[i] = outSegment(s, i < len(segments)-1)
	}
	return filepath.Join(segments...) + ".db"
}

// outSegment writes one segment. A directory's must not look like a database's
// file, "a.db", or like what belongs to one, "a.db-wal".
func outSegment(s string, dir bool) string {
	if s == "" {
		return "%"
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		unsafe := r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) || r == '%' || r == '\\' ||
			r == '.' && (i == 0 || dir && strings.HasPrefix(s[i:], ".db"))
		for j := i; j < i+size; j++ {
			if unsafe {
				fmt.Fprintf(&b, "%%%02X", s[j])
			} else {
				b.WriteByte(s[j])
			}
		}
		i += size
	}
	out := b.String()
	if len(out) <= maxSegment {
		return out
	}
	sum := sha256.Sum256([]byte(s))
	cut := strings.ToValidUTF8(out[:maxSegment-40], "")
	if i := strings.LastIndexByte(cut, '%'); i >= len(cut)-2 {
		cut = cut[:i] // no half of an escape
	}
	return cut + "%~" + hex.EncodeToString(sum[:16])
}
