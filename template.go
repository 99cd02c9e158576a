package multidb

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Template is a replica path with variables, such as
// litestream/{{project}}/{{database}}/. It is immutable and safe for concurrent
// use.
//
// A variable is {{name}}, spaces inside the braces allowed; its name is a
// letter or _ followed by letters, digits and _. Everything else stands for
// itself. {{name}} (file name without extension) and {{path}} (path relative to
// the discovery root) exist for every database; the others are what its
// pattern captured.
//
// Values become part of a storage key as they are, with one exception: a '%',
// and every byte that is not valid UTF-8, is written as %XX. So a key is always
// valid UTF-8, and two values never become one.
type Template struct {
	source string
	parts  []part // normalized: no leading, doubled or trailing slash
	vars   []string
}

// ParseTemplate parses a replica path. Leading, doubled and trailing slashes do
// not count. The error wraps ErrInvalidOption and has the byte position.
func ParseTemplate(s string) (*Template, error) {
	parts, err := lex("template", s)
	if err != nil {
		return nil, err
	}
	t := &Template{source: s}
	var (
		segment  []byte // literal text of the segment so far
		captured bool   // the segment has a variable
		at       int    // byte position of the segment
	)
	endSegment := func() error {
		if name := string(segment); !captured && (name == "." || name == "..") {
			return syntaxError("template", s, at, "a segment may not be %q; write the path without it", name)
		}
		segment, captured = segment[:0], false
		return nil
	}
	for _, p := range parts {
		if p.name != "" {
			captured = true
			t.parts = append(t.parts, p)
			if !slices.Contains(t.vars, p.name) {
				t.vars = append(t.vars, p.name)
			}
			continue
		}
		if i, what := badText(p.text); i >= 0 {
			return nil, syntaxError("template", s, p.pos+i, "%s cannot be part of a replica path", what)
		}
		if i := strings.IndexByte(p.text, '*'); i >= 0 {
			return nil, syntaxError("template", s, p.pos+i, "* has no value in a replica path; write the variable, {{project}} or {{database}}")
		}
		var text strings.Builder
		for i := range len(p.text) {
			c := p.text[i]
			if c != '/' {
				if len(segment) == 0 && !captured {
					at = p.pos + i
				}
				segment = append(segment, c)
				text.WriteByte(c)
				continue
			}
			if len(segment) > 0 || captured {
				text.WriteByte('/')
			}
			if err := endSegment(); err != nil {
				return nil, err
			}
		}
		if text.Len() > 0 {
			t.parts = append(t.parts, part{text: text.String(), pos: p.pos})
		}
	}
	if err := endSegment(); err != nil {
		return nil, err
	}
	t.trimSlash()
	if len(t.parts) == 0 {
		return nil, syntaxError("template", s, 0, "it is empty; write for example litestream/{{project}}/{{database}}")
	}
	return t, nil
}

// trimSlash takes the one trailing slash that normalization can leave.
func (t *Template) trimSlash() {
	if n := len(t.parts); n > 0 && t.parts[n-1].name == "" {
		last := &t.parts[n-1]
		if last.text = strings.TrimSuffix(last.text, "/"); last.text == "" {
			t.parts = t.parts[:n-1]
		}
	}
}

// Expand returns the replica path of a database: relative, without doubled or
// trailing slashes.
//
// The error wraps ErrInvalidOption if the database lacks a variable, and
// fs.ErrInvalid if a value cannot be part of a path: empty, "." or "..", with a
// control character, or with a separator ('/' or '\'). {{path}} may have
// slashes; the rule then holds for each of its segments.
func (t *Template) Expand(db Database) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		value, ok := db.Var(p.name)
		if !ok {
			return "", fmt.Errorf("%w: template %q: unknown variable {{%s}}; there are %s",
				ErrInvalidOption, t.source, p.name, varList(varNames(db.Vars)))
		}
		if err := appendValue(&b, value, p.name == "path"); err != nil {
			return "", fmt.Errorf("template %q: {{%s}} is %q: %w", t.source, p.name, value, err)
		}
	}
	return b.String(), nil
}

// Vars returns the names of the variables, each once, in order.
func (t *Template) Vars() []string { return slices.Clone(t.vars) }

// String returns the template as it was written.
func (t *Template) String() string { return t.source }

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

// checkValue refuses what would leave the database's own prefix, or make a key
// that cannot be typed.
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

// badText finds what literal text of a replica path may not have.
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

// syntaxError says what is wrong with a template or a pattern, where, and what
// to write.
func syntaxError(kind, source string, pos int, format string, args ...any) error {
	return fmt.Errorf("%w: %s %q, byte %d: %s", ErrInvalidOption, kind, source, pos, fmt.Sprintf(format, args...))
}

func varNames(vars []Var) []string {
	names := make([]string, len(vars))
	for i, v := range vars {
		names[i] = v.Name
	}
	return names
}

// varList prints what a template may use.
func varList(names []string) string {
	names = slices.Clone(names)
	for _, always := range []string{"name", "path"} {
		if !slices.Contains(names, always) {
			names = append(names, always)
		}
	}
	return "{{" + strings.Join(names, "}}, {{") + "}}"
}
