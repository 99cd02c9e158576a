package pattern

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Template is a replica path with variables. It is immutable and safe for
// concurrent use.
type Template struct {
	source string
	parts  []part // normalized: no leading, doubled or trailing slash
	vars   []string
}

// ParseTemplate parses a replica path. Leading, doubled and trailing slashes are
// ignored. The error has the byte position.
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

// trimSlash removes the one trailing slash that normalization can leave.
func (t *Template) trimSlash() {
	if n := len(t.parts); n > 0 && t.parts[n-1].name == "" {
		last := &t.parts[n-1]
		if last.text = strings.TrimSuffix(last.text, "/"); last.text == "" {
			t.parts = t.parts[:n-1]
		}
	}
}

// UnknownVarError is the error of Expand for a variable that has no value.
type UnknownVarError struct{ Name string }

func (e *UnknownVarError) Error() string { return "unknown variable {{" + e.Name + "}}" }

// Expand returns the replica path of a database whose variables value looks up:
// relative, without doubled or trailing slashes. The error is an *UnknownVarError
// where value does not know one, and otherwise wraps fs.ErrInvalid: the value
// cannot be part of a path.
func (t *Template) Expand(value func(name string) (string, bool)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		v, ok := value(p.name)
		if !ok {
			return "", &UnknownVarError{p.name}
		}
		if err := appendValue(&b, v, p.name == "path"); err != nil {
			return "", fmt.Errorf("template %q: {{%s}} is %q: %w", t.source, p.name, v, err)
		}
	}
	return b.String(), nil
}

// Names returns the names of the variables, each once, in order. They must not be
// changed.
func (t *Template) Names() []string { return t.vars }

// String returns the template as it was written.
func (t *Template) String() string { return t.source }

// Var is one named value.
type Var struct{ Name, Value string }

// Match is the reverse of Expand: the values of a replica path. Of several
// readings (two variables in one segment) it takes the one in which the first
// values are the shortest. ok is false if Expand could not have made the path.
func (t *Template) Match(path string) (values []Var, ok bool) {
	m := t.pattern().FindStringSubmatch(path)
	if m == nil {
		return nil, false
	}
	for i, value := range m[1:] {
		p := t.variable(i)
		if slices.ContainsFunc(values, func(v Var) bool { return v.Name == p }) {
			continue // expanding again shows whether both values are the same
		}
		values = append(values, Var{p, unescapeValue(value)})
	}
	again, err := t.Expand(func(name string) (string, bool) {
		i := slices.IndexFunc(values, func(v Var) bool { return v.Name == name })
		return values[i].Value, true // every variable was read
	})
	return values, err == nil && again == path
}

// variable is the name of the i-th variable, counting repetitions.
func (t *Template) variable(i int) string {
	for _, p := range t.parts {
		if p.name == "" {
			continue
		}
		if i == 0 {
			return p.name
		}
		i--
	}
	return ""
}

// pattern returns an expression that never splits one of Expand's %XX.
func (t *Template) pattern() *regexp.Regexp {
	const escape = `%[0-9A-F]{2}`
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for _, p := range t.parts {
		switch p.name {
		case "":
			b.WriteString(regexp.QuoteMeta(p.text))
		case "path":
			b.WriteString(`((?:` + escape + `|[^%])+?)`)
		default:
			b.WriteString(`((?:` + escape + `|[^%/])+?)`)
		}
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String()) // of quoted text and the groups above
}

// A TemplateSegment is what stands between two slashes of a template.
type TemplateSegment struct {
	Literal string // if it has no variable
	Path    bool   // {{path}} is in it
	match   *regexp.Regexp
}

// Matches reports whether a directory's name can stand for the segment, which has
// a variable.
func (s TemplateSegment) Matches(name string) bool { return s.match.MatchString(name) }

// Segments returns the template cut at its slashes.
func (t *Template) Segments() []TemplateSegment {
	var (
		segments []TemplateSegment
		source   strings.Builder
		current  TemplateSegment
		literal  = true
	)
	end := func() {
		if literal {
			segments = append(segments, current)
		} else {
			current.Literal = ""
			current.match = regexp.MustCompile(`(?s)\A` + source.String() + `\z`) // of quoted text and .+
			segments = append(segments, current)
		}
		current, literal = TemplateSegment{}, true
		source.Reset()
	}
	for _, p := range t.parts {
		if p.name != "" {
			literal = false
			current.Path = current.Path || p.name == "path"
			source.WriteString(`.+`)
			continue
		}
		for i, text := range strings.Split(p.text, "/") {
			if i > 0 {
				end()
			}
			current.Literal += text
			source.WriteString(regexp.QuoteMeta(text))
		}
	}
	end()
	return segments
}
