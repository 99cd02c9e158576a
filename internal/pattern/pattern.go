// Package pattern gives paths their meaning: which files a discovery pattern
// matches and which ID each of them has, and the path in a replica that a
// template makes of a database's values. It works on text alone and never looks
// at the disk, except for the current directory, which Parse adds to a relative
// pattern.
//
// Patterns and templates are immutable, so there are no locks. The syntax of both
// is documented where users look for it: multidb.Pattern and multidb.Template.
// Errors say what is wrong and what to write; the caller adds its own sentinel.
package pattern

import (
	"slices"
	"strings"
)

// Pattern is where databases are. It is immutable and safe for concurrent use.
type Pattern struct {
	source string
	root   string    // longest directory without captures
	prefix string    // root with one trailing slash
	rest   []Segment // below root; the last one is the file
	names  []string  // of the captures, in order
	plain  int       // bytes of a relative path that no capture has
}

// Root returns the longest directory without captures.
func (p *Pattern) Root() string { return p.root }

// Names returns the names of the captures, in order. They must not be changed.
func (p *Pattern) Names() []string { return p.names }

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.source }

// Depth returns the number of segments below the root. The last one is the file.
func (p *Pattern) Depth() int { return len(p.rest) }

// Segment returns a segment below the root; 0 is the first one.
func (p *Pattern) Segment(i int) Segment { return p.rest[i] }

// Match reports whether path, absolute and clean, is a database of this pattern,
// and returns its ID (the captured values joined by slashes, or rel if there are
// none) and its path below the root.
func (p *Pattern) Match(path string) (id, rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, p.prefix)
	if !ok || strings.IndexByte(rel, 0) >= 0 {
		return "", "", false
	}
	var (
		joined strings.Builder
		n      int
		left   = rel
	)
	for i, seg := range p.rest {
		name, after, more := strings.Cut(left, "/")
		last := i == len(p.rest)-1
		if more == last || !seg.Matches(name, last) {
			return "", "", false
		}
		for value := range seg.captures(name) {
			switch {
			case len(p.names) == 1:
				id = value
			case n == 0:
				joined.Grow(len(rel) - p.plain + len(p.names) - 1)
				joined.WriteString(value)
			default:
				joined.WriteByte('/')
				joined.WriteString(value)
			}
			n++
		}
		left = after
	}
	switch n {
	case 0:
		id = rel
	case 1:
	default:
		id = joined.String()
	}
	return id, rel, true
}

// Values yields the captured values of an ID that Match or Locate accepted, with
// their names. No value has a slash, since no capture reaches beyond its segment.
func (p *Pattern) Values(id string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for _, name := range p.names {
			value, rest, _ := strings.Cut(id, "/")
			if !yield(name, value) {
				return
			}
			id = rest
		}
	}
}

// Locate returns the path that an ID has under this pattern, and the part of it
// below the root, whether or not the file exists. It is the exact inverse of
// Match: ok is false for an ID that no file of this pattern could have, such as
// one with an empty value, "." or "..", NUL, a leading "." or another number of
// values.
func (p *Pattern) Locate(id string) (path, rel string, ok bool) {
	values := []string{}
	if len(p.names) > 0 {
		values = strings.Split(id, "/")
	}
	if len(values) != len(p.names) {
		return "", "", false
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
	path = b.String()
	back, rel, ok := p.Match(path)
	if !ok || back != id {
		return "", "", false
	}
	return path, rel, true
}

// Directory reports whether a directory may have databases of this pattern below
// it, and which segment its name stands for; -1 is the root itself.
func (p *Pattern) Directory(dir string) (segment int, ok bool) {
	if dir == p.root {
		return -1, true
	}
	rest, ok := strings.CutPrefix(dir, p.prefix)
	for k := 0; ok && k < len(p.rest)-1; k++ {
		name, after, more := strings.Cut(rest, "/")
		if !p.rest[k].Matches(name, false) {
			break
		}
		if !more {
			return k, true
		}
		rest = after
	}
	return 0, false
}

// Missing returns {{name}} for each of names that a database with the variables in
// have would not have. {{name}} and {{path}} exist always.
func Missing(names, have []string) []string {
	var missing []string
	for _, name := range names {
		if name != "name" && name != "path" && !slices.Contains(have, name) {
			missing = append(missing, "{{"+name+"}}")
		}
	}
	return missing
}

// List prints the variables that a template may use where names are captured.
func List(names []string) string {
	names = slices.Clone(names)
	for _, always := range []string{"name", "path"} {
		if !slices.Contains(names, always) {
			names = append(names, always)
		}
	}
	return "{{" + strings.Join(names, "}}, {{") + "}}"
}
