package registry

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Var is one named value of a database.
type Var struct{ Name, Value string }

// variable is any type with the fields of Var, such as the public one, which internal
// packages cannot import.
type variable interface {
	~struct{ Name, Value string }
}

// Identity is the ID of a database with its path, its variables, and its prefix at the
// replica. There may be 100,000 of them, so that what can be derived from the rest is not
// stored. Immutable.
type Identity struct {
	ID     string
	Path   string
	scheme *scheme
	rel    int // how many bytes at the end of Path are the relative path; -1: see scheme.rel
}

// scheme is what the databases of one pattern have in common: the names of their variables,
// whose values are the parts of their IDs, and what comes before and after the ID in their
// prefixes. A database that does not follow such rules has a scheme of its own, with vars
// and rel.
type scheme struct {
	names  []string
	prefix affix
	vars   []Var
	rel    string
}

// Schemes has each scheme so far once. The zero value is ready to use. The caller locks it.
type Schemes struct{ all []*scheme }

// affix makes the prefix of an ID: head, the ID, tail. If same is set, it is head for all
// IDs.
type affix struct {
	head, tail string
	same       bool
}

// affixOf returns the affix that makes the prefix text of an ID.
func affixOf(text, id string) affix {
	if i := strings.LastIndex(text, id); i >= 0 {
		return affix{head: strings.Clone(text[:i]), tail: strings.Clone(text[i+len(id):])}
	}
	return affix{head: strings.Clone(text), same: true}
}

func (a affix) of(id string) Prefix {
	if a.same {
		id = ""
	}
	return Prefix{a.head, id, a.tail}
}

// Identify returns the Identity of a database. rel is the path below its root.
func Identify[V variable](schemes *Schemes, id, path, rel string, vars []V, prefix string) Identity {
	text := path + id
	n := len(path)
	k := Identity{Path: text[:n], ID: text[n:], rel: -1}
	if strings.HasSuffix(k.Path, rel) {
		k.rel = len(rel)
	}
	if k.rel >= 0 && partsAre(id, vars) {
		k.scheme = commonScheme(schemes, id, vars, prefix)
	}
	if k.scheme == nil {
		k.rel = -1
		k.scheme = &scheme{prefix: affixOf(prefix, id), rel: strings.Clone(rel)}
		for _, v := range vars {
			k.scheme.vars = append(k.scheme.vars, Var(v))
		}
	}
	return k
}

// partsAre reports whether the parts of an ID are exactly the values of these variables.
func partsAre[V variable](id string, vars []V) bool {
	rest, more := id, true
	for _, v := range vars {
		var part string
		if !more {
			return false
		}
		if part, rest, more = strings.Cut(rest, "/"); part != Var(v).Value {
			return false
		}
	}
	return !more || len(vars) == 0
}

// maxSchemes bounds the number of schemes. Usually there are as many as patterns.
const maxSchemes = 64

// commonScheme returns the scheme of these variables and prefixes, which it makes if there
// is none. It returns nil if there are too many.
func commonScheme[V variable](schemes *Schemes, id string, vars []V, text string) *scheme {
	same := func(s *scheme) bool {
		return s.prefix.of(id).is(text) && slices.EqualFunc(s.names, vars, func(name string, v V) bool { return name == Var(v).Name })
	}
	if i := slices.IndexFunc(schemes.all, same); i >= 0 {
		return schemes.all[i]
	}
	if len(schemes.all) == maxSchemes {
		return nil
	}
	s := &scheme{names: make([]string, 0, len(vars)), prefix: affixOf(text, id)}
	for _, v := range vars {
		s.names = append(s.names, strings.Clone(Var(v).Name))
	}
	schemes.all = append(schemes.all, s)
	return s
}

// RelPath returns the path relative to the root below which the database was found.
func (k Identity) RelPath() string {
	if k.rel < 0 {
		return k.scheme.rel
	}
	return k.Path[len(k.Path)-k.rel:]
}

// VarsOf returns the variables of a database, nil if it has none.
func VarsOf[V variable](k Identity) (vars []V) {
	if k.rel < 0 {
		for _, v := range k.scheme.vars {
			vars = append(vars, V(v))
		}
		return vars
	}
	rest := k.ID
	for _, name := range k.scheme.names {
		var value string
		value, rest, _ = strings.Cut(rest, "/")
		vars = append(vars, V(Var{Name: name, Value: value}))
	}
	return vars
}

// Prefix is the prefix of a database at the replica, in three pieces, so that it takes no
// memory of its own.
type Prefix struct{ head, id, tail string }

// Prefix returns the prefix of the database at the replica.
func (k Identity) Prefix() Prefix { return k.scheme.prefix.of(k.ID) }

func (p Prefix) String() string { return p.head + p.id + p.tail }

// is reports whether the prefix is this text.
func (p Prefix) is(text string) bool {
	rest, ok := strings.CutPrefix(text, p.head)
	if ok {
		rest, ok = strings.CutPrefix(rest, p.id)
	}
	return ok && rest == p.tail
}

func (p Prefix) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range [...]string{p.head, p.id, p.tail} {
		_, _ = h.WriteString(s) // it has no errors
	}
	return h.Sum64()
}

// equal reports whether both are the same text, whatever their pieces are.
func (p Prefix) equal(q Prefix) bool {
	if p.head == q.head && p.tail == q.tail {
		return p.id == q.id
	}
	return p.is(q.String())
}

// Database is a database as a discoverer lists it, or would.
type Database struct {
	ID, Path string
	RelPath  string // below the root that it was found in; may be empty
	Vars     []Var
	ModTime  time.Time // of the file or of its WAL, the later one; zero if not known
}

// Database is the database again, without its ModTime.
func (k Identity) Database() Database {
	return Database{ID: k.ID, Path: k.Path, RelPath: k.RelPath(), Vars: VarsOf[Var](k)}
}
