package multidb

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Pattern says where databases are and what their paths mean:
// /data/{{project}}/databases/{{database}}.db. It is immutable and safe for
// concurrent use.
//
// {{name}} captures one or more bytes other than '/' within one segment; text
// may stand before and after it (db-{{database}}.sqlite). Two captures in one
// segment need text between them, and all but the last take as little as they
// can. A plain * is a capture named by its position among all captures of the
// pattern: project, database, branch, tenant. So * is {{database}} in
// /data/{{customer}}/*.db.
//
// Every other byte stands for itself, ? [ # % quotes and spaces included; there
// are no escapes, and a backslash is refused. "**" is not supported: the depth
// of a pattern is fixed, so that a listing reads only directories that can match.
//
// As in a shell, a capture at the start of a segment does not match a name that
// starts with ".". A file that SQLite, litestream or multidb keep beside a
// database (-wal, -shm, -journal, .tmp, …) is never matched.
type Pattern struct {
	source string
	root   string    // longest directory without captures
	prefix string    // root with one trailing slash
	rest   []segment // below root; the last one is the file
	names  []string  // of the captures, in order
}

// starNames are the names of plain stars, by position.
var starNames = [...]string{"project", "database", "branch", "tenant"}

// ParsePattern parses a pattern. A relative one is made absolute here, with the
// current directory; "." and ".." are resolved as text, before any symlink is.
// The error wraps ErrInvalidOption and has the byte position.
func ParsePattern(s string) (*Pattern, error) {
	if s == "" {
		return nil, syntaxError("pattern", s, 0, "it is empty; write for example /data/{{project}}/{{database}}.db")
	}
	parts, err := lex("pattern", s)
	if err != nil {
		return nil, err
	}
	ps := patternParser{source: s}
	if s[0] != '/' {
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("%w: pattern %q: relative, and there is no current directory: %w", ErrInvalidOption, s, err)
		}
		for name := range strings.SplitSeq(dir, "/") {
			if name != "" {
				ps.segments = append(ps.segments, segment{name})
			}
		}
	}
	for _, p := range parts {
		if p.name != "" {
			err = ps.capture(p.name, p.pos)
		} else {
			err = ps.text(p.text, p.pos)
		}
		if err != nil {
			return nil, err
		}
	}
	return ps.finish()
}

// Root returns the longest directory without captures: what must exist for a
// listing to count.
func (p *Pattern) Root() string { return p.root }

// Vars returns the names of the captures, in order.
func (p *Pattern) Vars() []string { return slices.Clone(p.names) }

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.source }

// Match reports whether path, absolute and clean, is a database of this
// pattern, and the values captured. It looks at the text only, not at the disk.
func (p *Pattern) Match(path string) (values []Var, ok bool) {
	rest, ok := strings.CutPrefix(path, p.prefix)
	if !ok || strings.IndexByte(rest, 0) >= 0 {
		return nil, false
	}
	if len(p.names) > 0 {
		values = make([]Var, 0, len(p.names))
	}
	for i, seg := range p.rest {
		name, after, more := strings.Cut(rest, "/")
		last := i == len(p.rest)-1
		if more == last || !seg.matches(name, last) {
			return nil, false
		}
		for value := range seg.captures(name) {
			values = append(values, Var{p.names[len(values)], value})
		}
		rest = after
	}
	return values, true
}

// PathFor returns the Database that an ID would have under this pattern,
// whether or not its file exists. It is the exact inverse of Match: ok is false
// for an ID that no file of this pattern could have, such as one with an empty
// value, "." or "..", NUL, a leading "." or another number of values.
func (p *Pattern) PathFor(id ID) (db Database, ok bool) {
	values := []string{}
	if len(p.names) > 0 {
		values = strings.Split(string(id), "/")
	}
	if len(values) != len(p.names) {
		return Database{}, false
	}
	var b strings.Builder
	b.WriteString(p.root)
	for _, seg := range p.rest {
		if !strings.HasSuffix(b.String(), "/") {
			b.WriteByte('/')
		}
		for i, text := range seg {
			if i > 0 {
				b.WriteString(values[0])
				values = values[1:]
			}
			b.WriteString(text)
		}
	}
	db, ok = p.database(b.String())
	if !ok || db.ID != id {
		return Database{}, false
	}
	return db, true
}

// database is what the file at path is, without its ModTime.
func (p *Pattern) database(path string) (Database, bool) {
	vars, ok := p.Match(path)
	if !ok {
		return Database{}, false
	}
	rel := path[len(p.prefix):]
	return Database{ID: idOf(vars, rel), Path: path, Vars: vars, RelPath: rel}, true
}

// idOf joins the captured values, or is the relative path where there is none.
func idOf(vars []Var, rel string) ID {
	switch len(vars) {
	case 0:
		return ID(rel)
	case 1:
		return ID(vars[0].Value)
	}
	var b strings.Builder
	for i, v := range vars {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(v.Value)
	}
	return ID(b.String())
}

// A segment is the text between two slashes, cut at its captures: one string
// is plain text, n+1 strings have n captures between them.
type segment []string

func (s segment) literal() bool { return len(s) == 1 }

// matches reports whether a name can stand for the segment; file says that it
// is the last one of its pattern.
func (s segment) matches(name string, file bool) bool {
	// A directory may well be called "my-journal"; only hidden ones are ours or
	// litestream's.
	if (file || name != "" && name[0] == '.' && !s.literal()) && isSidecar(name) {
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

// captures yields the values in name: fewer than the segment has if the name
// does not match. Taking the first place where the text that follows stands is
// enough: a later place leaves less for the rest, never more. So the work is
// linear.
func (s segment) captures(name string) func(yield func(string) bool) {
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

// isSidecar reports whether a file of that name lives beside a database and is
// none: SQLite's WAL, shared memory and journals, litestream's and our own
// temporary files.
func isSidecar(name string) bool {
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

// patternParser collects segments from the parts of the source.
type patternParser struct {
	source   string
	segments []segment
	names    []string
	current  segment // nil: nothing yet
	at       int     // byte position of current
	endsDir  bool    // the last thing seen was a slash, "." or ".."
}

func (ps *patternParser) text(text string, pos int) error {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case 0:
			return syntaxError("pattern", ps.source, pos+i, "a path cannot have a NUL byte")
		case '\\':
			return syntaxError("pattern", ps.source, pos+i, "a backslash is not supported; directories are separated by /, and every byte but * and {{ stands for itself")
		case '/':
			if err := ps.endSegment(); err != nil {
				return err
			}
			ps.endsDir = true
		case '*':
			if strings.HasPrefix(text[i:], "**") {
				return syntaxError("pattern", ps.source, pos+i, "** is not supported; write one * or {{name}} for each directory")
			}
			n := len(ps.names)
			if n >= len(starNames) {
				return syntaxError("pattern", ps.source, pos+i, "a * has a name only up to the fourth capture; write {{name}}")
			}
			if slices.Contains(ps.names, starNames[n]) {
				return syntaxError("pattern", ps.source, pos+i, "this * would be a second {{%s}}; write {{name}} with another name", starNames[n])
			}
			if err := ps.capture(starNames[n], pos+i); err != nil {
				return err
			}
		default:
			run := text[i:]
			if end := strings.IndexAny(run, "\x00\\/*"); end >= 0 {
				run = run[:end]
			}
			ps.begin(pos + i)
			ps.current[len(ps.current)-1] += run
			i += len(run) - 1
		}
	}
	return nil
}

func (ps *patternParser) capture(name string, pos int) error {
	ps.begin(pos)
	if n := len(ps.current); n > 1 && ps.current[n-1] == "" {
		return syntaxError("pattern", ps.source, pos, "two captures in one segment need text between them, as in {{project}}-{{database}}")
	}
	if name == "path" {
		return syntaxError("pattern", ps.source, pos, "{{path}} always exists, it is the path below the root; write another name")
	}
	if slices.Contains(ps.names, name) {
		return syntaxError("pattern", ps.source, pos, "{{%s}} is captured twice; write another name", name)
	}
	ps.names = append(ps.names, name)
	ps.current = append(ps.current, "")
	return nil
}

func (ps *patternParser) begin(pos int) {
	if ps.current == nil {
		ps.current, ps.at, ps.endsDir = segment{""}, pos, false
	}
}

func (ps *patternParser) endSegment() error {
	seg := ps.current
	ps.current = nil
	switch {
	case seg == nil:
	case seg.literal() && seg[0] == ".":
		ps.endsDir = true
	case seg.literal() && seg[0] == "..":
		ps.endsDir = true
		n := len(ps.segments)
		if n == 0 {
			break // as the kernel does: the root is its own parent
		}
		if !ps.segments[n-1].literal() {
			return syntaxError("pattern", ps.source, ps.at, ".. after a capture is not supported; write the path without it")
		}
		ps.segments = ps.segments[:n-1]
	default:
		ps.segments = append(ps.segments, seg)
	}
	return nil
}

func (ps *patternParser) finish() (*Pattern, error) {
	if err := ps.endSegment(); err != nil {
		return nil, err
	}
	n := len(ps.segments)
	if ps.endsDir || n == 0 {
		return nil, syntaxError("pattern", ps.source, len(ps.source)-1, "it ends in a directory; add the name of the file, such as {{database}}.db")
	}
	last := ps.segments[n-1]
	if isSidecar(strings.Join(last, "x")) {
		return nil, syntaxError("pattern", ps.source, ps.at, "it matches only files that belong to a database; write the name of the database itself")
	}
	p := &Pattern{source: ps.source, names: ps.names}
	var prefix strings.Builder
	prefix.WriteByte('/')
	fixed := 0
	for ; fixed < n-1 && ps.segments[fixed].literal(); fixed++ {
		prefix.WriteString(ps.segments[fixed][0])
		prefix.WriteByte('/')
	}
	p.prefix = prefix.String()
	p.root = p.prefix[:max(1, len(p.prefix)-1)]
	p.rest = ps.segments[fixed:]
	return p, nil
}
