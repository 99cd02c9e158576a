package pattern

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// starNames are the names of plain stars, by position.
var starNames = [...]string{"project", "database", "branch", "tenant"}

// Parse parses a pattern. A relative one is made absolute here, with the
// current directory; "." and ".." are resolved as text, before any symlink is.
// The error has the byte position.
func Parse(s string) (*Pattern, error) {
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
			return nil, fmt.Errorf("pattern %q: relative, and there is no current directory: %w", s, err)
		}
		for name := range strings.SplitSeq(dir, "/") {
			if name != "" {
				ps.segments = append(ps.segments, Segment{name})
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

// patternParser collects segments from the parts of the source.
type patternParser struct {
	source   string
	segments []Segment
	names    []string
	current  Segment // nil: nothing yet
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
		ps.current, ps.at, ps.endsDir = Segment{""}, pos, false
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
	if IsSidecar(strings.Join(last, "x")) {
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
	p.plain = len(p.rest) - 1 // slashes
	for _, seg := range p.rest {
		for _, text := range seg {
			p.plain += len(text)
		}
	}
	return p, nil
}
