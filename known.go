package multidb

import (
	"slices"
	"strings"
	"time"
)

// known is a Database as an entry keeps it: there may be 100,000 of them, so
// what can be told from the rest is not kept. Immutable.
type known struct {
	ID   ID
	Path string
	more *knownMore
	rel  int // RelPath is so many bytes at the end of Path; -1: see more
}

// knownMore is what databases of one pattern have in common: the names of their
// values, which are the parts of their IDs. One that does not fit has its own.
type knownMore struct {
	names []string
	vars  []Var
	rel   string
}

// keep makes the short form of a Database. prefix, which is kept beside it,
// shares its memory. mores are the common parts so far.
func keep(db Database, prefix string, mores *[]*knownMore) (known, string) {
	text := db.Path + string(db.ID) + prefix
	n := len(db.Path)
	k := known{Path: text[:n], ID: ID(text[n : n+len(db.ID)]), rel: -1}
	prefix = text[n+len(db.ID):]
	if strings.HasSuffix(k.Path, db.RelPath) {
		k.rel = len(db.RelPath)
	}
	if k.rel >= 0 && partsAre(db.ID, db.Vars) {
		k.more = commonMore(db.Vars, mores)
	}
	if k.more == nil {
		k.rel = -1
		k.more = &knownMore{vars: slices.Clone(db.Vars), rel: strings.Clone(db.RelPath)}
	}
	return k, prefix
}

// partsAre reports whether an ID is made of exactly these values.
func partsAre(id ID, vars []Var) bool {
	rest, more := string(id), true
	for _, v := range vars {
		var part string
		if !more {
			return false
		}
		if part, rest, more = strings.Cut(rest, "/"); part != v.Value {
			return false
		}
	}
	return !more || len(vars) == 0
}

// maxMores bounds the common parts, of which there are as many as patterns.
const maxMores = 64

func commonMore(vars []Var, mores *[]*knownMore) *knownMore {
	same := func(more *knownMore) bool {
		return slices.EqualFunc(more.names, vars, func(name string, v Var) bool { return name == v.Name })
	}
	if i := slices.IndexFunc(*mores, same); i >= 0 {
		return (*mores)[i]
	}
	if len(*mores) == maxMores {
		return nil
	}
	more := &knownMore{names: make([]string, 0, len(vars))}
	for _, v := range vars {
		more.names = append(more.names, strings.Clone(v.Name))
	}
	*mores = append(*mores, more)
	return more
}

// database is the Database again, without its ModTime.
func (k known) database() Database {
	db := Database{ID: k.ID, Path: k.Path}
	if k.rel < 0 {
		db.Vars, db.RelPath = slices.Clone(k.more.vars), k.more.rel
		return db
	}
	db.RelPath = k.Path[len(k.Path)-k.rel:]
	rest := string(k.ID)
	for _, name := range k.more.names {
		var value string
		value, rest, _ = strings.Cut(rest, "/")
		db.Vars = append(db.Vars, Var{Name: name, Value: value})
	}
	return db
}

// moment is a time in the life of a Manager, in 8 bytes: nanoseconds since its
// epoch by the monotonic clock, so that a clock that is set changes no lag. Zero
// is none.
type moment int64

func (m *Manager) moment(t time.Time) moment { return moment(max(t.Sub(m.epoch), 0)) + 1 }

// when is the moment as a time; zero for none.
func (m *Manager) when(at moment) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return m.epoch.Add(time.Duration(at - 1))
}
