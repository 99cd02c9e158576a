package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/pragma"
)

// readPragmas reads a mapping of names that are SQLite's, and not this package's.
func (s *settings) readPragmas(d *decoder, v value) {
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	seen := map[string]*token.Token{}
	for _, e := range entries {
		tk := e.Key.GetToken()
		name, at := strings.ToLower(tk.Value), value{node: e.Value, key: tk, path: join(v.path, tk.Value)}
		if seen[name] != nil {
			d.fail(tk, at.path, "a second time; the first is in line %d", seen[name].Position.Line)
			continue
		}
		seen[name] = tk
		to, ok := d.scalar(at)
		if !ok {
			continue
		}
		if _, err := pragma.Parse(name, to); err != nil {
			d.fail(tk, at.path, "%s", d.library(err.Error()))
			continue
		}
		s.add(multidb.WithPragma(name, to))
	}
}

// scalar returns a text, a number, or true or false as it is written.
func (d *decoder) scalar(v value) (s string, ok bool) {
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.BoolNode:
		return v.node.GetToken().Value, true
	}
	s, _, ok = d.text(v, "on, off or a number")
	return s, ok
}
