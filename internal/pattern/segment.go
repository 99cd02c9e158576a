package pattern

import "strings"

// A Segment is the text between two slashes, cut at its captures: one string
// is plain text, n+1 strings have n captures between them.
type Segment []string

func (s Segment) literal() bool { return len(s) == 1 }

// Text returns the only name that the segment matches; ok is false if it has
// captures.
func (s Segment) Text() (name string, ok bool) { return s[0], s.literal() }

// Matches reports whether a name can stand for the segment; file says that it
// is the last one of its pattern.
func (s Segment) Matches(name string, file bool) bool {
	// A directory may well be called "my-journal"; only hidden ones are ours or
	// litestream's.
	if (file || name != "" && name[0] == '.' && !s.literal()) && IsSidecar(name) {
		return false
	}
	if s.literal() {
		return name == s[0]
	}
	if s[0] == "" && strings.HasPrefix(name, ".") {
		return false
	}
	n := 0
	for value := range s.captures(name) {
		if value == "." || value == ".." {
			return false
		}
		n++
	}
	return n == len(s)-1
}

// captures yields the values in name: fewer than the segment has if the name does not
// match. A capture ends at the first occurrence of the text that follows it. That is
// enough, as a later one leaves less for the rest, never more; so the work is linear.
func (s Segment) captures(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		name, ok := strings.CutPrefix(name, s[0])
		if !ok {
			return
		}
		for i, text := range s[1:] {
			if name == "" {
				return
			}
			end := len(name) - len(text)
			if i < len(s)-2 {
				end = 1 + strings.Index(name[1:], text)
			} else if !strings.HasSuffix(name, text) {
				return
			}
			if end < 1 || !yield(name[:end]) {
				return
			}
			name = name[end+len(text):]
		}
	}
}

// IsSidecar reports whether a file of that name belongs to a database and is not one
// itself: SQLite's WAL, shared memory and journals, litestream's and our own temporary
// files.
func IsSidecar(name string) bool {
	if strings.HasPrefix(name, ".multidb") {
		return true
	}
	for _, suffix := range [...]string{"-wal", "-shm", "-journal", ".tmp", "-litestream", "-txid"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	// A journal of several databases: x.db-mj and nine hexadecimal digits.
	i := len(name) - len("-mj012345678")
	return i > 0 && strings.HasPrefix(name[i:], "-mj") && strings.Trim(name[i+3:], "0123456789ABCDEF") == ""
}
