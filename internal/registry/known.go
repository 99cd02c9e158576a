package registry

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Var is one named value of a database.
type Var struct{ Name, Value string }

// variable is any type like Var: the public one, which internal packages do not know.
type variable interface {
	~struct{ Name, Value string }
}

// Identity is what a database is called and where it is, with its values and its
// prefix at the replica. There may be 100,000 of them, so what can be derived from the
// rest is not kept. Immutable.
type Identity struct {
	ID     string
	Path   string
	scheme *scheme
	rel    int // the relative path is so many bytes at the end of Path; -1: see scheme
}

// scheme is what databases of one pattern have in common: the names of their
// values, which are the parts of their IDs, and what stands around the ID in
// their prefixes. One that does not fit has its own.
type scheme struct {
	names  []string
	prefix affix
	vars   []Var
	rel    string
}

// Schemes are the schemes so far, each once. The zero value is ready. Locked by its
// caller.
type Schemes struct{ all []*scheme }

// affix makes a prefix of an ID: head, the ID, tail; or it is the same for all.
type affix struct {
	head, tail string
	same       bool
}

// affixOf is an affix that makes this prefix of this ID.
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

// Identify makes the Identity of a database.
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

// partsAre reports whether an ID is made of exactly these values.
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

// maxSchemes bounds the schemes, of which there are as many as patterns.
const maxSchemes = 64

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

// RelPath is the path relative to the root that the database was found below.
func (k Identity) RelPath() string {
	if k.rel < 0 {
		return k.scheme.rel
	}
	return k.Path[len(k.Path)-k.rel:]
}

// VarsOf returns the values of a database, nil if it has none.
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

// Prefix is the place of a database at the replica, in pieces.
type Prefix struct{ head, id, tail string }

// Prefix returns the place of the database at the replica.
func (k Identity) Prefix() Prefix { return k.scheme.prefix.of(k.ID) }

func (p Prefix) String() string { return p.head + p.id + p.tail }

// is reports whether it is this text.
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

// equal reports whether both are the same text, however it is cut.
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
