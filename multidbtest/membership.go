package multidbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member"
)

// Errors of the sessions of a Membership.
var (
	// ErrPartitioned is Err of a session that Membership.Partition has cut off.
	ErrPartitioned = errors.New("the node is cut off from the others")
	// ErrKilled is Err of a session that Membership.Kill has ended.
	ErrKilled = errors.New("the node was killed")

	errLeft = errors.New("it has left the cluster")
)

// Membership is a multidb.Membership in memory: give one to several Managers of one process, and
// they are nodes of one cluster. What happens is seen by all of them at once; nothing waits,
// and nothing runs in the background. Safe for concurrent use.
type Membership struct {
	mu     sync.Mutex
	nodes  map[string]*memberSession // by name, those that have joined
	cut    map[string]bool           // by name
	healed chan struct{}             // closed by Heal, which makes another
}

var (
	_ multidb.Membership    = (*Membership)(nil)
	_ multidb.MemberSession = (*memberSession)(nil)
)

// NewMembership returns a Membership without members.
func NewMembership() *Membership {
	return &Membership{nodes: make(map[string]*memberSession), cut: make(map[string]bool), healed: make(chan struct{})}
}

// Partition cuts the node of a name off until Heal: the others do not have it among their members, and
// it keeps those that it knows. Its Err is ErrPartitioned, what it wants to tell the others waits, and
// so does a Join of that name.
func (m *Membership) Partition(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[name] = true
	m.tellLocked()
}

// Heal undoes Partition.
func (m *Membership) Heal(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cut, name)
	m.tellLocked()
	close(m.healed)
	m.healed = make(chan struct{})
}

// Kill ends the session of a name as the end of its process does: it does not leave. It keeps the members
// that it knew, its Err is ErrKilled from now on, and its name is free.
func (m *Membership) Kill(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.nodes[name]; s != nil {
		m.endLocked(s, ErrKilled)
	}
}

// Join implements multidb.Membership.
func (m *Membership) Join(ctx context.Context, self multidb.Member, ended string) (multidb.MemberSession, error) {
	if err := self.Check(); err != nil {
		return nil, err
	}
	if ended == self.Life {
		return nil, fmt.Errorf("%w: its own life %q has ended", member.ErrInvalid, ended)
	}
	if err := m.lock(ctx, self.Name, nil); err != nil {
		return nil, fmt.Errorf("join the cluster as %q: %w", self.Name, err)
	}
	defer m.mu.Unlock()
	if s := m.nodes[self.Name]; s != nil {
		if s.self.Life != ended {
			return nil, fmt.Errorf("join the cluster as %q: %w: %s at %s", self.Name, multidb.ErrNameTaken, s.self.Life, s.self.URL)
		}
		m.endLocked(s, ErrKilled)
	}
	s := &memberSession{m: m, self: self, gone: make(chan struct{})}
	m.nodes[self.Name] = s
	m.tellLocked()
	return s, nil
}

// lock locks m when the node of a name is not cut off. The error is that of ctx, or why s
// has ended; then m is not locked.
func (m *Membership) lock(ctx context.Context, name string, s *memberSession) error {
	var gone chan struct{}
	if s != nil {
		gone = s.gone
	}
	for {
		m.mu.Lock()
		healed, cut := m.healed, m.cut[name]
		var err error
		if s != nil {
			err = s.ended
		}
		if err == nil && ctx.Err() == nil && !cut {
			return nil
		}
		m.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-healed:
		case <-gone:
		case <-ctx.Done():
			if cut {
				return fmt.Errorf("%w: %w", ErrPartitioned, context.Cause(ctx))
			}
			return context.Cause(ctx)
		}
	}
}

// tellLocked tells everybody who there is.
func (m *Membership) tellLocked() {
	var seen []multidb.Member
	for name, s := range m.nodes {
		if !m.cut[name] {
			seen = append(seen, s.self)
		}
	}
	for name, s := range m.nodes {
		if !m.cut[name] {
			s.view.Set(append([]multidb.Member(nil), seen...))
		}
	}
}

func (m *Membership) endLocked(s *memberSession, why error) {
	s.ended = why
	close(s.gone)
	delete(m.nodes, s.self.Name)
	m.tellLocked()
}

// memberSession is a session of a Membership, whose lock guards self and ended.
type memberSession struct {
	m     *Membership
	view  member.View
	gone  chan struct{} // closed when it has ended
	self  multidb.Member
	ended error // why it has
}

func (s *memberSession) Members() []multidb.Member { return s.view.Members() }

func (s *memberSession) Changed() <-chan struct{} { return s.view.Changed() }

func (s *memberSession) Update(ctx context.Context, self multidb.Member) error {
	if err := s.m.lock(ctx, self.Name, s); err != nil {
		return fmt.Errorf("tell the others what has changed: %w", err)
	}
	defer s.m.mu.Unlock()
	if self.Name != s.self.Name || self.Life != s.self.Life {
		return fmt.Errorf("%w: a session of %q cannot become one of %.80q", member.ErrInvalid, s.self.Name, self.Name)
	}
	s.self = self
	s.m.tellLocked()
	return nil
}

func (s *memberSession) Err() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.ended == nil && s.m.cut[s.self.Name] {
		return ErrPartitioned
	}
	return s.ended
}

func (s *memberSession) Leave(context.Context) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.ended != nil {
		return nil
	}
	s.m.endLocked(s, errLeft)
	if s.m.cut[s.self.Name] {
		return fmt.Errorf("leave the cluster: %w", ErrPartitioned)
	}
	return nil
}
