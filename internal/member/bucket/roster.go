package bucket

import (
	"cmp"
	"time"

	"github.com/multidb-go/multidb/internal/member"
)

const (
	// maxLives and maxObjects bound what is remembered of a listing, and maxNames how many names of one
	// life's objects are. What is beyond maxNames is deleted after a later look.
	maxLives   = 4096
	maxObjects = 16 * maxLives
	maxNames   = 16
)

// seen is what is known of one life.
type seen struct {
	place  // its newest object
	silent time.Duration
	born   int  // the look that saw it first
	moves  int  // in how many looks its number was another, since it was not in two one after another
	still  bool // it did not move since the look before

	member member.Member // as its body says
	read   string        // the hash of that body; empty: none was read
	bad    string        // the hash of a body that could not be understood

	looked  int      // the look that saw it last
	objects []string // which that look has listed, up to maxNames
}

// moving reports whether it is surely alive: the last request of a process that has died may come late, so that
// moving once says nothing.
func (s *seen) moving() bool { return s.moves >= 2 }

// known reports whether it is known who it is.
func (s *seen) known() bool { return s.read != "" }

// roster is what looks have told. It decides who is silent. Not safe for concurrent use.
type roster struct {
	heartbeat time.Duration
	lives     map[life]*seen
	looks     int           // that succeeded
	began     time.Duration // of the last one
}

// look begins a look. What it lists is added; done ends it, and without done it is as if the
// look never was.
type look struct {
	r       *roster
	began   time.Duration
	newest  map[life]*listed
	tooMany bool
}

type listed struct {
	place
	objects []string
}

func (r *roster) look(began time.Duration) *look {
	return &look{r: r, began: began, newest: make(map[life]*listed)}
}

// add notes one object. own is a life for which there is always room.
func (l *look) add(p place, object string, own life) {
	n := l.newest[p.life]
	if n == nil {
		if len(l.newest) >= maxLives && p.life != own {
			l.tooMany = true
			return
		}
		n = &listed{place: p}
		l.newest[p.life] = n
	}
	if p.number >= n.number {
		n.place = p
	}
	if len(n.objects) < maxNames {
		n.objects = append(n.objects, object)
	}
}

// done ends a look that listed everything, and counts how long everybody was silent. It counts a
// heartbeat and a quarter at most, so that a look that is late does not make silent nodes of many, and
// nothing at all after a gap.
func (l *look) done(ended time.Duration) {
	r := l.r
	gap := l.began - r.began
	fresh := gap > r.heartbeat*5/2 || r.looks == 0
	count := min(gap, r.heartbeat*5/4)
	r.looks++
	r.began = l.began
	for id, n := range l.newest {
		s := r.lives[id]
		if s == nil {
			s = &seen{born: r.looks}
			r.lives[id] = s
		}
		came := s.born == r.looks
		moved := came || n.number != s.number
		s.looked, s.objects, s.place = r.looks, n.objects, n.place
		switch {
		case moved:
			s.silent = l.began - ended // until the end of this look it may have said something
			if r.looks > 1 {
				s.moves++
			}
		case fresh:
			s.silent = l.began - ended
		default:
			s.silent += count
		}
		if !moved && s.still {
			s.moves = 0
		}
		s.still = !moved
	}
	for id, s := range r.lives {
		if s.looked != r.looks {
			delete(r.lives, id)
		}
	}
}

// alive returns the members that are not silent, but for those of one name.
func (r *roster) alive(silence time.Duration, but string) []member.Member {
	best := make(map[string]*seen)
	for id, s := range r.lives {
		if id.name == but || !s.known() || s.silent >= silence {
			continue
		}
		// Two lives of a name are there after a start, until the former one is deleted or written off.
		if b := best[id.name]; b == nil || newer(s, b) {
			best[id.name] = s
		}
	}
	members := make([]member.Member, 0, len(best)+1)
	for _, s := range best {
		members = append(members, s.member)
	}
	return members
}

// newer reports whether a is rather the node of a name than b.
func newer(a, b *seen) bool {
	return cmp.Or(cmp.Compare(b.silent, a.silent), cmp.Compare(a.born, b.born), cmp.Compare(a.life.life, b.life.life)) > 0
}
