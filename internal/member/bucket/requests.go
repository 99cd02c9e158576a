package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/multidb-go/multidb/internal/member"
)

// readers is how many bodies are read at once.
const readers = 8

// request makes one request, for at most Config.Timeout.
func (s *Session) request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no answer within %v: %w", s.cfg.Timeout, context.DeadlineExceeded))
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	return err
}

// create creates the next object. Each attempt has a number of its own, as an older one may
// still be carried out.
func (s *Session) create(ctx context.Context, hash string, body []byte) error {
	s.number++
	s.out = true
	p := place{s.id, s.number, hash}
	if err := s.request(ctx, func(ctx context.Context) error { return s.cfg.Objects.Create(ctx, p.object(), body) }); err != nil {
		return fmt.Errorf("tell the others of this node: %w", err)
	}
	return nil
}

// look lists everything, reads who is new, and deletes what nobody needs.
func (s *Session) look(ctx context.Context) error {
	s.complete = false
	l := s.roster.look(s.cfg.Boot())
	if err := s.request(ctx, func(ctx context.Context) error {
		n := 0
		for info, err := range s.cfg.Objects.List(ctx, Dir, "") {
			if err != nil {
				return err
			}
			if n++; n > maxObjects {
				return fmt.Errorf("there are more than %d objects in %s", maxObjects, Dir)
			}
			if p, ok := parse(info.Name); ok {
				l.add(p, info.Name, s.id)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("ask who is in the cluster: %w", err)
	}
	l.done(s.cfg.Boot())
	if own := s.roster.lives[s.id]; own != nil {
		s.number, s.out = max(s.number, own.number), true // those of a former Session of this life
	}
	s.aside = s.read(ctx)
	s.show(s.telling())
	s.aside = errors.Join(s.aside, s.sweep(ctx))
	if l.tooMany {
		s.aside = errors.Join(s.aside, fmt.Errorf("there are more than %d lives in %s", maxLives, Dir))
	}
	return nil
}

func (s *Session) telling() member.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self.member
}

// show tells who is alive to whoever asks.
func (s *Session) show(self member.Member) {
	s.view.Set(append(s.roster.alive(s.cfg.Silence, s.id.name), self))
}

// read reads the bodies that are not known.
func (s *Session) read(ctx context.Context) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	room := make(chan struct{}, readers)
	complete := true
	for id, r := range s.roster.lives {
		if id == s.id || id == s.ended || r.hash == "" || r.hash == r.read || r.hash == r.bad {
			continue
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			body, err := s.body(ctx, r.place)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if complete = false; !errors.Is(err, fs.ErrNotExist) && len(errs) < readers {
					errs = append(errs, fmt.Errorf("read who %s is: %w", id, err))
				}
				return
			}
			m, err := decode(r.place, body)
			if err != nil {
				s.cfg.Logger.Warn("an object of the members is none of a node", "error", err)
				r.bad = r.hash
				return
			}
			r.member, r.read = m, r.hash
		})
	}
	wg.Wait()
	s.complete = complete
	return errors.Join(errs...)
}

func (s *Session) body(ctx context.Context, p place) (body []byte, err error) {
	err = s.request(ctx, func(ctx context.Context) error {
		rc, err := s.cfg.Objects.Open(ctx, p.object(), 0, maxBody+1)
		if err != nil {
			return err
		}
		body, err = io.ReadAll(io.LimitReader(rc, maxBody+1))
		return errors.Join(err, rc.Close())
	})
	return body, err
}

// sweep deletes the own objects but for the last two, those of the life that has ended, and those of
// lives that were silent for long.
func (s *Session) sweep(ctx context.Context) error {
	var old []string
	for id, r := range s.roster.lives {
		switch {
		case id == s.id:
			for _, o := range r.objects {
				if p, _ := parse(o); p.number+1 < r.number {
					old = append(old, o)
				}
			}
		case id == s.ended, r.silent >= forgetAfter:
			old = append(old, r.objects...)
		}
	}
	return s.remove(ctx, old)
}

func (s *Session) remove(ctx context.Context, objects []string) error {
	if len(objects) == 0 {
		return nil
	}
	if err := s.request(ctx, func(ctx context.Context) error { return s.cfg.Objects.Delete(ctx, objects...) }); err != nil {
		return fmt.Errorf("delete old objects of members: %w", err)
	}
	return nil
}

// deleteOwn deletes all objects of this life.
func (s *Session) deleteOwn(ctx context.Context) error {
	err := s.request(ctx, func(ctx context.Context) error {
		var own []string
		for info, err := range s.cfg.Objects.List(ctx, s.id.dir(), "") {
			if err != nil {
				return err
			}
			if own = append(own, info.Name); len(own) > maxObjects {
				break
			}
		}
		if len(own) == 0 {
			return nil
		}
		return s.cfg.Objects.Delete(ctx, own...)
	})
	if err != nil {
		return fmt.Errorf("delete the objects of this node: %w", err)
	}
	s.out = false
	return nil
}
