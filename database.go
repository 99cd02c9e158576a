package multidb

import (
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/registry"
	"github.com/superfly/ltx"
)

// ID names one database in a Manager. It is the values its discovery pattern
// captured joined by "/" ("project0/db0") or, where nothing is captured, the
// path relative to the discoverer's root. It is stable across restarts and
// unique in a Manager.
type ID string

// String returns the ID as text.
func (id ID) String() string { return string(id) }

// IsZero reports whether the ID is empty.
func (id ID) IsZero() bool { return id == "" }

// TXID is a transaction of a replica: the n-th LTX file that was written to it.
// It is litestream's.
type TXID = ltx.TXID

// Pos is how far a replica has come.
type Pos struct{ TXID TXID }

// Var is one named value of a database, captured from its path or given by a
// Discoverer. Replica path templates expand it as {{Name}}.
type Var struct {
	Name  string
	Value string
}

// Database is one SQLite database as a Discoverer reports it. It is a plain
// value, safe to copy.
type Database struct {
	// ID is unique in the Manager. Required.
	ID ID
	// Path is the absolute path of the database file. Required. Two databases
	// with the same file (by a symlink or a hard link) are taken as one.
	Path string
	// Vars are the values that replica templates may use, in pattern order.
	// {{name}} and {{path}} need not be among them: they follow from Path.
	Vars []Var
	// RelPath is Path relative to the discoverer's root: what {{path}} expands
	// to. Empty means Path without its leading slash.
	RelPath string
	// ModTime is when the database or its WAL was last written, as far as the
	// discoverer knows; zero if unknown. A recent one makes the database hot.
	ModTime time.Time

	fleetLog string // where metadata.json says that newer transactions may be; "": unknown
}

// Var returns the value of the named variable and whether the database has it.
func (d Database) Var(name string) (string, bool) {
	for _, v := range d.Vars {
		if v.Name == name {
			return v.Value, true
		}
	}
	switch name {
	case "name":
		return baseName(d.Path), true
	case "path":
		if d.RelPath != "" {
			return d.RelPath, true
		}
		return strings.TrimLeft(d.Path, "/"), true
	}
	return "", false
}

// baseName is the file name of path without its extension.
func baseName(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		path = path[i+1:]
	}
	if i := strings.LastIndexByte(path, '.'); i > 0 {
		path = path[:i]
	}
	return path
}

// databaseOf is what the inner packages know of a database, as the user sees it.
func databaseOf(db registry.Database) Database {
	return Database{ID: ID(db.ID), Path: db.Path, RelPath: db.RelPath, Vars: convertVars[Var](db.Vars), ModTime: db.ModTime}
}

// inner is the inverse.
func (d Database) inner() registry.Database {
	return registry.Database{ID: string(d.ID), Path: d.Path, RelPath: d.RelPath, Vars: convertVars[registry.Var](d.Vars), ModTime: d.ModTime}
}

func convertVars[To, From ~struct{ Name, Value string }](vars []From) (out []To) {
	for _, v := range vars {
		out = append(out, To(v))
	}
	return out
}
