package pattern

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// appendValue checks and escapes one value; with slashes, each segment of it.
func appendValue(b *strings.Builder, value string, slashes bool) error {
	for first := true; ; first = false {
		segment, rest, more := value, "", false
		if slashes {
			segment, rest, more = strings.Cut(value, "/")
		}
		if err := checkValue(segment); err != nil {
			return err
		}
		if !first {
			b.WriteByte('/')
		}
		escapeValue(b, segment)
		if !more {
			return nil
		}
		value = rest
	}
}

// checkValue refuses a value that would lead out of the database's own prefix, or make
// a key that cannot be typed.
func checkValue(s string) error {
	if s == "" {
		return fmt.Errorf("%w: a path segment would be empty", fs.ErrInvalid)
	}
	if s == "." || s == ".." {
		return fmt.Errorf("%w: %q names another directory", fs.ErrInvalid, s)
	}
	for _, r := range s {
		switch {
		case r == '/' || r == '\\':
			return fmt.Errorf("%w: it has a separator", fs.ErrInvalid)
		case unicode.IsControl(r):
			return fmt.Errorf("%w: it has the control character %U", fs.ErrInvalid, r)
		}
	}
	return nil
}

// escapeValue writes s with '%' and invalid UTF-8 as %XX. Every '%' of the
// result starts an escape, so it can be read back in one way only.
func escapeValue(b *strings.Builder, s string) {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '%' || r == utf8.RuneError && size == 1 {
			fmt.Fprintf(b, "%%%02X", s[i])
		} else {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
}

// unescapeValue undoes escapeValue.
func unescapeValue(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// badText finds a character that the literal text of a replica path may not have.
func badText(s string) (pos int, what string) {
	for i, r := range s {
		switch {
		case r == '\\':
			return i, `a backslash`
		case unicode.IsControl(r):
			return i, fmt.Sprintf("the control character %U", r)
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i, "invalid UTF-8"
			}
		}
	}
	return -1, ""
}
