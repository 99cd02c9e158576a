package pattern

import (
	"fmt"
	"strings"
)

// A part is literal text, or a variable if name is not empty.
type part struct {
	text string
	name string
	pos  int // byte position in the source
}

// lex splits a template or a pattern at its {{variables}}.
func lex(kind, s string) ([]part, error) {
	var parts []part
	for pos := 0; pos < len(s); {
		open := strings.Index(s[pos:], "{{")
		text := s[pos:]
		if open >= 0 {
			text = text[:open]
		}
		if i := strings.Index(text, "}}"); i >= 0 {
			return nil, syntaxError(kind, s, pos+i, "}} without {{ before it; write {{name}}")
		}
		if i, name := singleBraces(text); i >= 0 {
			return nil, syntaxError(kind, s, pos+i, "a variable has two braces; write {{%s}}", name)
		}
		if text != "" {
			parts = append(parts, part{text: text, pos: pos})
		}
		if open < 0 {
			break
		}
		pos += open
		inner, rest, ok := strings.Cut(s[pos+2:], "}}")
		if i := strings.Index(inner, "{"); i >= 0 {
			return nil, syntaxError(kind, s, pos+2+i, "braces inside braces; write {{name}}")
		}
		if !ok {
			return nil, syntaxError(kind, s, pos, "{{ is not closed; write {{name}}")
		}
		name := strings.Trim(inner, " ")
		if name == "" {
			return nil, syntaxError(kind, s, pos, "no name between the braces; write {{name}}")
		}
		if !isVarName(name) {
			return nil, syntaxError(kind, s, pos, "%q is not a name; write a letter or _, then letters, digits and _", name)
		}
		parts = append(parts, part{name: name, pos: pos})
		pos = len(s) - len(rest)
	}
	return parts, nil
}

// singleBraces finds {name}, which is a mistake more often than a file name:
// taken as text it would give every database the same prefix.
func singleBraces(text string) (pos int, name string) {
	open := -1
	for i := range len(text) {
		switch text[i] {
		case '{':
			open = i
		case '}':
			if open < 0 {
				continue
			}
			if name := strings.Trim(text[open+1:i], " "); isVarName(name) {
				return open, name
			}
			open = -1
		}
	}
	return -1, ""
}

func isVarName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// syntaxError says what is wrong with a template or a pattern, where, and what
// to write.
func syntaxError(kind, source string, pos int, format string, args ...any) error {
	return fmt.Errorf("%s %q, byte %d: %s", kind, source, pos, fmt.Sprintf(format, args...))
}
