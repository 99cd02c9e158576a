package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
)

// verb calls do with a tenant that nothing else is done with, as what it is then.
func (s *clusterSim) verb(what string, do func(ctx context.Context, id multidb.ID, t *simTenant)) {
	id := s.tenant()
	s.mu.Lock()
	t := s.tenants[id]
	busy := t.busy > 0
	s.mu.Unlock()
	if busy {
		return
	}
	s.tally.add(&s.tally.verbs, 1)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	s.note("%s is to be %s", id, what)
	do(ctx, id, t)
}

func (s *clusterSim) become(t *simTenant, state string, to multidb.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.state, t.to = state, to
}

// refused reports whether a call did nothing at all.
func refused(err error) bool {
	return errors.Is(err, multidb.ErrNotOwner) || errors.Is(err, multidb.ErrNotFound)
}

// remove takes a tenant out of service, and mostly back.
func (s *clusterSim) remove(name string) {
	m := s.nodes[name]
	s.verb("removed", func(ctx context.Context, id multidb.ID, t *simTenant) {
		err := m.Remove(ctx, id)
		s.note("%s removes %s: %v", name, id, err)
		if refused(err) {
			return
		}
		if err == nil && m.Undelete(ctx, id) == nil {
			return
		}
		s.become(t, isRemoved, "")
	})
}

func (s *clusterSim) newID(t *simTenant) multidb.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verbs++
	id := multidb.ID(fmt.Sprintf("v/%d", s.verbs))
	if t != nil {
		s.tenants[id] = t
	}
	return id
}

// fork makes another tenant of one.
func (s *clusterSim) fork(name string) {
	m := s.nodes[name]
	s.verb("forked", func(ctx context.Context, id multidb.ID, t *simTenant) {
		s.mu.Lock()
		promised := append([]string(nil), t.promised...)
		s.mu.Unlock()
		dst := s.newID(nil)
		err := m.Fork(ctx, id, dst, multidb.ForkOptions{})
		s.note("%s forks %s to %s: %v", name, id, dst, err)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tenants[dst] = &simTenant{promised: promised}
		}
	})
}

func (s *clusterSim) rename(name string) {
	m := s.nodes[name]
	s.verb("renamed", func(ctx context.Context, id multidb.ID, t *simTenant) {
		to := s.newID(nil)
		err := m.Rename(ctx, id, to)
		s.note("%s renames %s to %s: %v", name, id, to, err)
		switch {
		case refused(err):
		case err == nil:
			s.mu.Lock()
			s.tenants[to] = &simTenant{promised: t.promised}
			s.mu.Unlock()
			s.become(t, isGone, to)
		default:
			s.become(t, isRenamed, to)
		}
	})
}

// erase takes a tenant away for good. Its ID is not used again: DESIGN.md says what may come late.
func (s *clusterSim) erase(name string) {
	m := s.nodes[name]
	s.verb("erased", func(ctx context.Context, id multidb.ID, t *simTenant) {
		_, err := m.Erase(ctx, id)
		s.note("%s erases %s: %v", name, id, err)
		if !refused(err) {
			s.become(t, isGone, "")
		}
	})
}

// undelete puts a tenant back that was removed, or was not.
func (s *clusterSim) undelete(id multidb.ID) {
	var errs []error
	for began := time.Now(); time.Since(began) < servedWithin; s.pass(time.Second) {
		errs = nil
		for _, m := range s.nodes {
			err := m.Undelete(s.t.Context(), id)
			if errors.Is(err, multidb.ErrNotOwner) {
				continue
			}
			h, e := m.Acquire(s.t.Context(), id)
			if h.Release(); e == nil {
				return
			}
			errs = append(errs, err, e)
		}
	}
	s.must(fmt.Errorf("%s cannot be put back: %w", id, errors.Join(errs...)))
}

// exists reports whether a tenant has another name by now.
func (s *clusterSim) exists(id multidb.ID) bool {
	var err error
	for began := time.Now(); time.Since(began) < servedWithin; s.pass(time.Second) {
		for _, m := range s.nodes {
			if o, e := m.Owner(s.t.Context(), id); e != nil || !o.Self {
				continue
			}
			var ok bool
			if ok, err = m.Exists(s.t.Context(), id); err == nil {
				return ok
			}
		}
	}
	s.must(fmt.Errorf("whether %s exists: %w", id, err))
	return false
}
