package bucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/multidb-go/multidb/internal/member"
)

// step does one turn: a sign of being alive, where this life may give one, and a look. again: the next
// one need not wait. The error is of this turn.
func (s *Session) step(ctx context.Context) (again bool, err error) {
	s.aside = nil
	switch s.kind {
	case outside:
		again, err = s.enter(ctx)
	case claiming:
		again, err = s.claim(ctx)
	case joined:
		again, err = s.beat(ctx)
	}
	s.report(err)
	return again, err
}

// report notes why the others cannot be told of this process, or cannot be asked.
func (s *Session) report(err error) {
	err = errors.Join(err, s.aside)
	switch {
	case s.kind == joined, errors.Is(err, member.ErrNameTaken):
	case s.lost != nil:
		err = errors.Join(s.lost, err)
	case err == nil:
		err = errUnsure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// enter is rule N1.
func (s *Session) enter(ctx context.Context) (again bool, err error) {
	if err := s.look(ctx); err != nil {
		return false, err
	}
	free := true
	for id, r := range s.roster.lives {
		if id.name != s.id.name || id == s.id || id == s.ended || r.silent >= s.cfg.Silence {
			continue
		}
		if free = false; r.moving() {
			return false, taken(r)
		}
	}
	if !free {
		return false, nil
	}
	var off []string // of those that were written off
	for id, r := range s.roster.lives {
		if id.name == s.id.name && id != s.id && id != s.ended {
			off = append(off, r.objects...)
		}
	}
	s.aside = errors.Join(s.aside, s.remove(ctx, off))
	s.kind = claiming
	return true, nil
}

// claim is rule N2.
func (s *Session) claim(ctx context.Context) (again bool, err error) {
	began := s.cfg.Boot()
	if err := s.create(ctx, "", nil); err != nil {
		return false, err
	}
	s.since = began
	if err := s.look(ctx); err != nil {
		return false, err
	}
	wait := false
	for id, r := range s.roster.lives {
		if id.name != s.id.name || id == s.id || id == s.ended || r.silent >= s.cfg.Silence {
			continue
		}
		if r.hash == "" && id.life < s.id.life || r.hash != "" && r.moving() {
			return false, s.yield(ctx, r)
		}
		wait = true
	}
	if wait {
		return false, nil
	}
	return s.sign(ctx)
}

// sign says as a member that this life is alive. It is rule N3: the claim is over when this
// was acknowledged in time, and a member claims when it was not.
func (s *Session) sign(ctx context.Context) (again bool, err error) {
	s.mu.Lock()
	now := s.self
	s.mu.Unlock()
	began := s.cfg.Boot()
	if err := s.create(ctx, hashOf(now.body), now.body); err != nil {
		return false, err
	}
	if s.late() {
		s.kind = claiming
		return true, nil
	}
	s.kind, s.since, s.lost = joined, began, nil
	s.mu.Lock()
	if s.acked != now.turn {
		s.acked = now.turn
		close(s.ackedCh)
		s.ackedCh = make(chan struct{})
	}
	s.mu.Unlock()
	s.show(now.member)
	return false, nil
}

// late reports whether anybody may have written this life off.
func (s *Session) late() bool { return s.cfg.Boot()-s.since >= s.cfg.Silence*9/10 }

// beat is a turn of a member.
func (s *Session) beat(ctx context.Context) (again bool, err error) {
	if s.late() {
		s.kind = claiming
		return true, nil
	}
	again, err = s.sign(ctx)
	if s.kind != joined {
		return again, err
	}
	if looked := s.look(ctx); looked != nil || err != nil {
		return false, errors.Join(err, looked)
	}
	for id, r := range s.roster.lives { // the last rule, in case a clock stands still
		if id.name == s.id.name && id.life < s.id.life && r.hash != "" && r.moves >= 4 {
			return false, s.yield(ctx, r)
		}
	}
	return false, nil
}

// yield goes outside, as the name is another's.
func (s *Session) yield(ctx context.Context, r *seen) error {
	s.kind, s.lost = outside, taken(r)
	return errors.Join(s.lost, s.deleteOwn(ctx))
}

func taken(r *seen) error {
	if r.known() && r.member.URL != "" {
		return fmt.Errorf("%w: %s at %s", member.ErrNameTaken, r.life, r.member.URL)
	}
	return fmt.Errorf("%w: %s", member.ErrNameTaken, r.life)
}
