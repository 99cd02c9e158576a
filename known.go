package multidb

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// known is a Database, and its prefix, as an entry keeps them: there may be
// 100,000 of them, so what can be told from the rest is not kept. Immutable.
type known struct {
	ID   ID
	Path string
	more *knownMore
	rel  int // RelPath is so many bytes at the end of Path; -1: see more
}

// knownMore is what databases of one pattern have in common: the names of their
// values, which are the parts of their IDs, and what stands around the ID in
// their prefixes. One that does not fit has its own.
type knownMore struct {
	names  []string
	prefix affix
	vars   []Var
	rel    string
}

// affix makes a prefix of an ID: head, the ID, tail; or it is the same for all.
type affix struct {
	head, tail string
	same       bool
}

// affixOf is an affix that makes this prefix of this ID.
func affixOf(text string, id ID) affix {
	if i := strings.LastIndex(text, string(id)); i >= 0 {
		return affix{head: strings.Clone(text[:i]), tail: strings.Clone(text[i+len(id):])}
	}
	return affix{head: strings.Clone(text), same: true}
}

func (a affix) of(id ID) prefix {
	if a.same {
		id = ""
	}
	return prefix{a.head, string(id), a.tail}
}

// keep makes the short form of a Database. mores are the common parts so far.
func keep(db Database, prefix string, mores *[]*knownMore) known {
	text := db.Path + string(db.ID)
	n := len(db.Path)
	k := known{Path: text[:n], ID: ID(text[n:]), rel: -1}
	if strings.HasSuffix(k.Path, db.RelPath) {
		k.rel = len(db.RelPath)
	}
	if k.rel >= 0 && partsAre(db.ID, db.Vars) {
		k.more = commonMore(db, prefix, mores)
	}
	if k.more == nil {
		k.rel = -1
		k.more = &knownMore{vars: slices.Clone(db.Vars), prefix: affixOf(prefix, db.ID), rel: strings.Clone(db.RelPath)}
	}
	return k
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

func commonMore(db Database, text string, mores *[]*knownMore) *knownMore {
	same := func(more *knownMore) bool {
		return more.prefix.of(db.ID).is(text) && slices.EqualFunc(more.names, db.Vars, func(name string, v Var) bool { return name == v.Name })
	}
	if i := slices.IndexFunc(*mores, same); i >= 0 {
		return (*mores)[i]
	}
	if len(*mores) == maxMores {
		return nil
	}
	more := &knownMore{names: make([]string, 0, len(db.Vars)), prefix: affixOf(text, db.ID)}
	for _, v := range db.Vars {
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

// prefix is where its replica is, in pieces.
type prefix struct{ head, id, tail string }

func (k known) prefix() prefix { return k.more.prefix.of(k.ID) }

func (p prefix) String() string { return p.head + p.id + p.tail }

// is reports whether it is this text.
func (p prefix) is(text string) bool {
	rest, ok := strings.CutPrefix(text, p.head)
	if ok {
		rest, ok = strings.CutPrefix(rest, p.id)
	}
	return ok && rest == p.tail
}

func (p prefix) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range [...]string{p.head, p.id, p.tail} {
		_, _ = h.WriteString(s) // it has no errors
	}
	return h.Sum64()
}

// equal reports whether both are the same text, however it is cut.
func (p prefix) equal(q prefix) bool {
	if p.head == q.head && p.tail == q.tail {
		return p.id == q.id
	}
	return p.is(q.String())
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
