package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/multidb-go/multidb/internal/boottime"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/member"
	"github.com/multidb-go/multidb/internal/store"
)

const (
	// DefaultHeartbeat and DefaultSilence are those of Config.
	DefaultHeartbeat = 3 * time.Second
	DefaultSilence   = 9 * time.Second

	// minTimeout is that of a request, however short a heartbeat is.
	minTimeout = 3 * time.Second
	// forgetAfter is how long the objects of a silent life stay.
	forgetAfter = 10 * time.Minute
	// cleanup bounds the deletion of a claim when a Join is given up.
	cleanup = time.Second
)

// Config is how members know of each other. Objects is required. Nodes of one cluster have the
// same Heartbeat and Silence.
type Config struct {
	Objects store.Objects // the directory of the fleet log
	// Heartbeat is the time from one sign of being alive to the next. Default 3 s.
	Heartbeat time.Duration
	// Silence is for how long a node may be silent and still count as alive; at least
	// three heartbeats. Default: three heartbeats.
	Silence time.Duration
	// Timeout bounds each request. Default: the heartbeat, or 3 s if that is less.
	Timeout time.Duration
	// Boot is a clock that nobody can set, and that counts the time in which the machine was
	// suspended. Default: the later of boottime.Now and Go's monotonic clock, which is
	// the one that goes on in a bubble of testing/synctest.
	Boot   func() time.Duration
	Logger *slog.Logger // told of objects that nobody can read; default: none
}

// Membership is a member.Membership in a directory of objects. Safe for concurrent use.
type Membership struct{ cfg Config }

var (
	_ member.Membership = (*Membership)(nil)
	_ member.Session    = (*Session)(nil)
)

// New returns a Membership that has done nothing.
func New(cfg Config) (*Membership, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.Silence == 0 {
		cfg.Silence = 3 * cfg.Heartbeat
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = max(cfg.Heartbeat, minTimeout)
	}
	if cfg.Boot == nil {
		cfg.Boot = steady()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Objects == nil:
		return nil, errors.New("a membership needs a directory of objects")
	case cfg.Heartbeat < 0 || cfg.Timeout < 0:
		return nil, fmt.Errorf("heartbeat %v, timeout %v: want more than nothing", cfg.Heartbeat, cfg.Timeout)
	case cfg.Silence < 3*cfg.Heartbeat:
		return nil, fmt.Errorf("silence of %v: want at least three heartbeats, %v", cfg.Silence, 3*cfg.Heartbeat)
	}
	return &Membership{cfg}, nil
}

// steady is the default of Config.Boot.
func steady() func() time.Duration {
	began, boot := time.Now(), boottime.Now()
	return func() time.Duration { return max(time.Since(began), boottime.Now()-boot) }
}

// Join implements member.Membership. It takes four requests if nobody has the name. While the
// store fails it tries again each heartbeat, until ctx ends; a store that can never keep
// members (store.ErrNoConditionalWrites) is an error at once.
func (m *Membership) Join(ctx context.Context, self member.Member, ended string) (member.Session, error) {
	if err := self.Check(); err != nil {
		return nil, err
	}
	body, err := encode(self)
	if err != nil {
		return nil, err
	}
	if ended == self.Life {
		return nil, fmt.Errorf("%w: its own life %q has ended", member.ErrInvalid, ended)
	}
	s := newSession(m.cfg, self, body, ended)
	for {
		again, err := s.step(ctx)
		if err == nil && s.kind == joined && s.complete {
			break
		}
		pause := m.cfg.Heartbeat
		switch {
		case ctx.Err() != nil:
			return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, context.Cause(ctx)), err, s.giveUp(ctx))
		case errors.Is(err, member.ErrNameTaken), errors.Is(err, store.ErrNoConditionalWrites), errors.Is(err, fs.ErrInvalid):
			return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, err), s.giveUp(ctx))
		case again:
			continue
		case err == nil && s.kind == joined:
			pause /= 4 // somebody was not read, or has moved on since the listing
			err = s.aside
		}
		if slept := ctxio.Sleep(ctx, pause); slept != nil {
			return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, slept), err, s.giveUp(ctx))
		}
	}
	s.start()
	return s, nil
}

// giveUp deletes what a Join has created, as far as is known.
func (s *Session) giveUp(ctx context.Context) error {
	if !s.out {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	return s.deleteOwn(ctx)
}
