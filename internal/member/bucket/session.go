package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/multidb-go/multidb/internal/member"
)

// errLeft is what a Session says of itself after Leave.
var errLeft = errors.New("it has left the cluster")

// errUnsure is what a Session says of itself while it claims its name again.
var errUnsure = errors.New("this node was silent for too long, and finds out whether it still has its name")

// kind is what a life is, as the package comment says.
type kind int

const (
	outside kind = iota
	claiming
	joined
)

// told is what the others are to be told.
type told struct {
	member member.Member
	body   []byte
	turn   int // rises with each Update
}

// Session is what one process is told. One goroutine makes its requests; before start that is
// the one of Join.
type Session struct {
	cfg   Config
	id    life
	ended life

	view    member.View
	wake    chan struct{}      // holds one
	quit    chan struct{}      // closed by Leave: no more turns
	done    chan struct{}      // closed when the goroutine has ended
	cancel  context.CancelFunc // of its requests
	leaving chan struct{}      // holds one: one Leave at a time

	// These belong to the goroutine.
	kind     kind
	roster   roster
	number   uint64        // of the last object that was tried
	since    time.Duration // when the request for the last acknowledged object began
	complete bool          // the last look has read everybody
	out      bool          // there may be objects of this life
	lost     error         // why it went outside; nil: it has the name, or never had it
	aside    error         // what failed beside the last look, and keeps it from nothing

	mu      sync.Mutex
	self    told
	acked   int           // the turn of what the others can be told
	ackedCh chan struct{} // closed when that rises
	err     error
}

func newSession(cfg Config, self member.Member, body []byte, ended string) *Session {
	return &Session{
		cfg: cfg, id: life{self.Name, self.Life}, ended: life{self.Name, ended},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), leaving: make(chan struct{}, 1),
		roster: roster{heartbeat: cfg.Heartbeat, lives: make(map[life]*seen)},
		self:   told{self, body, 1}, ackedCh: make(chan struct{}),
	}
}

// start begins the turns of a Session that has joined.
func (s *Session) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(ctx)
}

// run does a turn each heartbeat, and at once when there is something to tell.
func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(s.cfg.Heartbeat)
	defer timer.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
		case <-timer.C:
		}
		began := time.Now()
		for again := true; again; {
			select {
			case <-s.quit:
				return
			default:
			}
			again, _ = s.step(ctx) // Err has the error
		}
		timer.Reset(max(0, s.cfg.Heartbeat-time.Since(began)))
	}
}

// Members implements member.Session.
func (s *Session) Members() []member.Member { return s.view.Members() }

// Changed implements member.Session.
func (s *Session) Changed() <-chan struct{} { return s.view.Changed() }

// Err implements member.Session. It wraps member.ErrNameTaken while another process has the
// name.
func (s *Session) Err() error {
	select {
	case <-s.quit:
		return errLeft
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Update implements member.Session. The others see the change at their next look. If ctx ends
// before that is sure, they may see it all the same.
func (s *Session) Update(ctx context.Context, self member.Member) error {
	if (life{self.Name, self.Life}) != s.id {
		return fmt.Errorf("%w: a session of %s cannot become one of %.80q@%.80q", member.ErrInvalid, s.id, self.Name, self.Life)
	}
	body, err := encode(self)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.self = told{self, body, s.self.turn + 1}
	turn := s.self.turn
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	for {
		s.mu.Lock()
		acked, next := s.acked, s.ackedCh
		s.mu.Unlock()
		if acked >= turn {
			return nil
		}
		select {
		case <-next:
		case <-s.quit:
			return errLeft
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("tell the others what has changed: %w", context.Cause(ctx)), s.Err())
		}
	}
}

// Leave implements member.Session. The others see it at their next look. It lets the request
// that is under way come to its end, as one that is cancelled may be carried out later. It may be
// called again if it has failed.
func (s *Session) Leave(ctx context.Context) error {
	select {
	case s.leaving <- struct{}{}:
	default: // another Leave
		select {
		case s.leaving <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("leave the cluster: %w", context.Cause(ctx))
		}
	}
	defer func() { <-s.leaving }()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		<-s.done
	}
	s.cancel()
	if !s.out {
		return nil
	}
	if err := s.deleteOwn(ctx); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}
