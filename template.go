package multidb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/pattern"
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
type Pattern struct{ p pattern.Pattern }

// ParsePattern parses a pattern. A relative one is made absolute here, with the
// current directory; "." and ".." are resolved as text, before any symlink is.
// The error wraps ErrInvalidOption and has the byte position.
func ParsePattern(s string) (*Pattern, error) {
	p, err := pattern.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	return &Pattern{*p}, nil
}

// Root returns the longest directory without captures: what must exist for a
// listing to count.
func (p *Pattern) Root() string { return p.p.Root() }

// Vars returns the names of the captures, in order.
func (p *Pattern) Vars() []string { return slices.Clone(p.p.Names()) }

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.p.String() }

// Match reports whether path, absolute and clean, is a database of this
// pattern, and the values captured. It looks at the text only, not at the disk.
func (p *Pattern) Match(path string) (values []Var, ok bool) {
	id, _, ok := p.p.Match(path)
	if !ok {
		return nil, false
	}
	return varsOf[Var](&p.p, id), true
}

// PathFor returns the Database that an ID would have under this pattern,
// whether or not its file exists. It is the exact inverse of Match: ok is false
// for an ID that no file of this pattern could have, such as one with an empty
// value, "." or "..", NUL, a leading "." or another number of values.
func (p *Pattern) PathFor(id ID) (db Database, ok bool) {
	path, rel, ok := p.p.Locate(string(id))
	if !ok {
		return Database{}, false
	}
	return Database{ID: id, Path: path, Vars: varsOf[Var](&p.p, string(id)), RelPath: rel}, true
}

// varsOf returns the values that a pattern captured for an ID.
func varsOf[V ~struct{ Name, Value string }](p *pattern.Pattern, id string) []V {
	if len(p.Names()) == 0 {
		return nil
	}
	vars := make([]V, 0, len(p.Names()))
	for name, value := range p.Values(id) {
		vars = append(vars, V{name, value})
	}
	return vars
}

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
type Template struct{ t pattern.Template }

// ParseTemplate parses a replica path. Leading, doubled and trailing slashes
// are ignored. The error wraps ErrInvalidOption and has the byte position.
func ParseTemplate(s string) (*Template, error) {
	t, err := pattern.ParseTemplate(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	return &Template{*t}, nil
}

// Expand returns the replica path of a database: relative, without doubled or
// trailing slashes.
//
// The error wraps ErrInvalidOption if the database lacks a variable, and
// fs.ErrInvalid if a value cannot be part of a path: empty, "." or "..", with a
// control character, or with a separator ('/' or '\'). {{path}} may have
// slashes; the rule then holds for each of its segments.
func (t *Template) Expand(db Database) (string, error) {
	path, err := t.t.Expand(db.Var)
	var unknown *pattern.UnknownVarError
	if errors.As(err, &unknown) {
		return "", fmt.Errorf("%w: template %q: %w; there are %s", ErrInvalidOption, t, err, pattern.List(varNames(db.Vars)))
	}
	return path, err
}

// Match is the reverse of Expand: the values of a replica path. Of several
// readings (two variables in one segment) it takes the one in which the first
// values are the shortest. ok is false if Expand could not have made the path.
func (t *Template) Match(path string) (values []Var, ok bool) {
	read, ok := t.t.Match(path)
	for _, v := range read {
		values = append(values, Var(v))
	}
	return values, ok
}

// Vars returns the names of the variables, each once, in order.
func (t *Template) Vars() []string { return slices.Clone(t.t.Names()) }

// String returns the template as it was written.
func (t *Template) String() string { return t.t.String() }

func varNames(vars []Var) []string {
	names := make([]string, len(vars))
	for i, v := range vars {
		names[i] = v.Name
	}
	return names
}

// joinedValues returns the ID of a database of which only the values are known:
// the values joined, or the path if there are none.
func joinedValues(vars []Var, path string) ID {
	if len(vars) == 0 {
		return ID(path)
	}
	values := make([]string, len(vars))
	for i, v := range vars {
		values[i] = v.Value
	}
	return ID(strings.Join(values, "/"))
}
