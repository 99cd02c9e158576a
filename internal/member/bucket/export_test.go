package bucket

import "github.com/multidb-go/multidb/internal/member"

// Sure reports whether a session counts itself as the node of its name. It is to be called while
// its goroutine waits.
func Sure(s member.Session) bool {
	b := s.(*Session)
	return b.kind == joined && !b.late() && b.Err() != errLeft
}

// Lives is how many lives a session remembers. It is to be called while its goroutine waits.
func Lives(s member.Session) int { return len(s.(*Session).roster.lives) }

const MaxLives = maxLives

var Parse = parse

// Object returns the name of the object that a place has.
func (p place) Object() string { return p.object() }
