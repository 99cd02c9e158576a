package etcdmembership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member"
)

var (
	errLeft  = errors.New("it has left the cluster")
	errLease = errors.New("the lease of this node in etcd is over")
	errKey   = errors.New("the key of this node in etcd was deleted")
)

// session is what one process is told. One goroutine follows etcd; before start that is the one
// of Join.
type session struct {
	m     *Membership
	key   string
	life  string
	ended string // the former life

	view   member.View
	wake   chan struct{} // holds one
	quit   chan struct{} // closed by Leave
	done   chan struct{} // closed when the goroutine has ended
	cancel context.CancelFunc
	begun  sync.Once // of Leave

	// These belong to the goroutine.
	lease   clientv3.LeaseID          // 0: none
	mod     int64                     // the revision of the own key
	members map[string]multidb.Member // by name, without this one
	ghosts  map[string]time.Time      // those of them that have no key, and until when they stay
	aside   error                     // why it does not know all of them, though etcd answers

	mu      sync.Mutex
	self    multidb.Member
	body    string
	turn    int           // rises with each Update
	acked   int           // the turn of what is in etcd
	ackedCh chan struct{} // closed when that changes
	err     error
}

func newSession(m *Membership, self multidb.Member, body, ended string) *session {
	return &session{
		m: m, key: m.cfg.Prefix + self.Name, life: self.Life, ended: ended,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		members: make(map[string]multidb.Member), ghosts: make(map[string]time.Time),
		self: self, body: body, turn: 1, ackedCh: make(chan struct{}),
	}
}

// start begins to follow etcd.
func (s *session) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(ctx)
}

// bounded bounds one request.
func (s *session) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.m.timeout(), fmt.Errorf("no answer of etcd within %v: %w", s.m.timeout(), context.DeadlineExceeded))
}

func (s *session) telling() (self multidb.Member, body string, turn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self, s.body, s.turn
}

// told notes that the others can be told of a turn.
func (s *session) told(turn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked != turn {
		s.acked = turn
		close(s.ackedCh)
		s.ackedCh = make(chan struct{})
	}
}

func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// claim takes a new lease and binds the key of this node to it. The error is a *takenError if
// another life has the key.
func (s *session) claim(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if s.lease == 0 {
		grant, err := s.m.client.Grant(ctx, int64(s.m.cfg.TTL/time.Second))
		if err != nil {
			return fmt.Errorf("take a lease of etcd: %w", err)
		}
		s.lease = grant.ID
	}
	self, body, turn := s.telling()
	put := clientv3.OpPut(s.key, body, clientv3.WithLease(s.lease))
	known := int64(0) // the revision in which the key was changed last; 0: there is none
	for range 3 {
		resp, err := s.m.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.key), "=", known)).
			Then(put).Else(clientv3.OpGet(s.key)).Commit()
		if err != nil {
			s.lease = 0 // it may be the reason, and one that is not used goes by itself
			return fmt.Errorf("create the key of this node in etcd: %w", err)
		}
		if resp.Succeeded {
			s.mod = resp.Header.Revision
			s.told(turn)
			return nil
		}
		known = 0
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) != 0 {
			other, _ := decode(s.m.cfg.Prefix, kvs[0])
			if other.Life != self.Life && (other.Life != s.ended || s.ended == "") {
				return &takenError{other, kvs[0].Lease}
			}
			known = kvs[0].ModRevision
		}
	}
	return errors.New("the key of this node in etcd changes all the time")
}

// snapshot reads all keys, and returns the revision of what it read. If this node should have its key and has not, what was
// read counts for nothing: etcd may have lost its data, and the others be about to create theirs again.
func (s *session) snapshot(ctx context.Context, owner bool) (int64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.m.client.Get(ctx, s.m.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxMembers))
	if err != nil {
		return 0, fmt.Errorf("read the members from etcd: %w", err)
	}
	if owner {
		own := slices.IndexFunc(resp.Kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == s.key })
		if own < 0 && !resp.More {
			return 0, errLease
		}
		if own >= 0 {
			if m, _ := decode(s.m.cfg.Prefix, resp.Kvs[own]); m.Life != s.life {
				return 0, &takenError{m, resp.Kvs[own].Lease}
			}
		}
	}
	s.aside = nil
	before := s.members
	s.members = make(map[string]multidb.Member, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		if m, ok := decode(s.m.cfg.Prefix, kv); ok && string(kv.Key) != s.key {
			s.members[m.Name] = m
			delete(s.ghosts, m.Name)
		}
	}
	for name := range s.ghosts {
		s.members[name] = before[name]
	}
	s.show()
	if resp.More {
		s.aside = fmt.Errorf("there are more than %d keys below %q in etcd", maxMembers, s.m.cfg.Prefix)
	}
	return resp.Header.Revision, nil
}

// show tells who there is, without ghosts whose time is over. It returns how long the next one has; 0:
// there is none.
func (s *session) show() (next time.Duration) {
	for name, until := range s.ghosts {
		left := time.Until(until)
		if left <= 0 {
			delete(s.ghosts, name)
			delete(s.members, name)
		} else if next == 0 || left < next {
			next = left
		}
	}
	self, _, _ := s.telling()
	s.view.Set(append(slices.Collect(maps.Values(s.members)), self))
	return next
}

// run follows etcd until Leave.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	for {
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		lost := errors.Is(err, errLease)
		for err != nil {
			s.fail(err)
			pause := time.NewTimer(s.m.pause())
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
			s.hurry()
			if err = s.claim(ctx); errors.Is(err, multidb.ErrNameTaken) {
				_, looked := s.snapshot(ctx, false) // who there is can be known all the same
				err = errors.Join(err, looked)
			}
		}
		if lost {
			until := time.Now().Add(s.m.cfg.TTL)
			for name := range s.members {
				s.ghosts[name] = until
			}
		}
	}
}

// hurry has the client connect now, if it waits to do so: after a long outage it would for up to two minutes, and the
// others would be without this node.
func (s *session) hurry() { s.m.client.ActiveConnection().ResetConnectBackoff() }

// follow keeps the lease and follows the keys until the lease or the key is not this node's any more.
func (s *session) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease := s.lease
	alive, err := s.m.client.KeepAlive(ctx, lease)
	if err != nil {
		s.lease = 0
		return errors.Join(errLease, err)
	}
	heard := time.NewTimer(s.m.unheard())
	defer heard.Stop()
	for {
		err := s.watch(ctx, alive, heard)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLease):
			s.lease = 0
			return err
		case errors.Is(err, errKey), errors.Is(err, multidb.ErrNameTaken):
			return err
		}
		s.fail(err)
		pause := time.NewTimer(s.m.pause())
		select {
		case <-pause.C:
		case _, ok := <-alive:
			if pause.Stop(); !ok {
				s.lease = 0
				return errLease
			}
			heard.Reset(s.m.unheard())
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
		s.hurry()
	}
}

// watch reads all keys and follows them, until the watch ends, as by a compaction, or the lease or the key is
// lost.
func (s *session) watch(ctx context.Context, alive <-chan *clientv3.LeaseKeepAliveResponse, heard *time.Timer) error {
	revision, err := s.snapshot(ctx, true)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	// Watch returns when etcd has begun it, which may take for as long as etcd is away. It begins with what this
	// node has written if that is older, so that it is seen if the own key is gone or another's by now.
	begun := make(chan clientv3.WatchChan, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	from := min(revision, s.mod) + 1
	watching.Go(func() { begun <- s.m.client.Watch(ctx, s.m.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) })
	var events clientv3.WatchChan
	ghosts := time.NewTimer(s.m.cfg.TTL)
	defer ghosts.Stop()
	for {
		if err := s.update(ctx); err != nil {
			return err
		}
		if next := s.show(); next > 0 {
			ghosts.Reset(next)
		}
		select {
		case resp, ok := <-alive:
			if !ok {
				return errLease
			}
			heard.Reset(s.m.unheard())
			if events != nil {
				s.fail(s.aside)
			}
			if resp.ResponseHeader != nil && resp.Revision < revision {
				return errors.New("etcd knows less than it did") // restored from a backup, or a member that lags
			}
		case events = <-begun:
			s.fail(s.aside)
		case <-heard.C:
			s.fail(fmt.Errorf("etcd was not heard of for %v", s.m.unheard()))
		case <-ghosts.C:
		case <-s.wake:
		case resp, ok := <-events:
			if err := resp.Err(); err != nil {
				return fmt.Errorf("follow the members in etcd: %w", err)
			}
			if !ok {
				return errors.New("the watch of etcd has ended")
			}
			revision = max(revision, resp.Header.Revision)
			for _, e := range resp.Events {
				if err := s.apply(e); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply takes note of one change.
func (s *session) apply(e *clientv3.Event) error {
	name := string(e.Kv.Key[len(s.m.cfg.Prefix):])
	m, ok := decode(s.m.cfg.Prefix, e.Kv)
	gone := e.Type == mvccpb.Event_DELETE
	if string(e.Kv.Key) == s.key {
		switch {
		case e.Kv.ModRevision <= s.mod:
			return nil // from before what this node has written
		case gone:
			return errKey
		case m.Life != s.life:
			return &takenError{m, e.Kv.Lease}
		}
		return nil
	}
	delete(s.ghosts, name)
	if gone || !ok {
		delete(s.members, name)
	} else if _, known := s.members[name]; known || len(s.members) < maxMembers {
		s.members[name] = m
	}
	return nil
}

// update writes what Update has left, if anything.
func (s *session) update(ctx context.Context) error {
	_, body, turn := s.telling()
	s.mu.Lock()
	acked := s.acked
	s.mu.Unlock()
	if acked == turn {
		return nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.m.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.key), "=", s.mod)).
		Then(clientv3.OpPut(s.key, body, clientv3.WithLease(s.lease))).Commit()
	if err != nil {
		return fmt.Errorf("change the key of this node in etcd: %w", err)
	}
	if !resp.Succeeded {
		return errKey // or its answer was lost; it is claimed again
	}
	s.mod = resp.Header.Revision
	s.told(turn)
	return nil
}

// Members implements multidb.MemberSession.
func (s *session) Members() []multidb.Member { return s.view.Members() }

// Changed implements multidb.MemberSession.
func (s *session) Changed() <-chan struct{} { return s.view.Changed() }

// Err implements multidb.MemberSession.
func (s *session) Err() error {
	select {
	case <-s.quit:
		return errLeft
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Update implements multidb.MemberSession.
func (s *session) Update(ctx context.Context, self multidb.Member) error {
	body, err := encode(self)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if self.Name != s.self.Name || self.Life != s.self.Life {
		s.mu.Unlock()
		return fmt.Errorf("%w: a session of %q cannot become one of %.80q", member.ErrInvalid, s.key, self.Name)
	}
	s.turn++
	s.self, s.body = self, body
	turn := s.turn
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

// Leave implements multidb.MemberSession. It may be called again if it has failed.
func (s *session) Leave(ctx context.Context) error {
	s.begun.Do(func() {
		close(s.quit)
		s.cancel()
	})
	<-s.done // its requests end with the context that was cancelled
	s.mu.Lock()
	lease := s.lease
	s.mu.Unlock()
	if lease == 0 {
		return nil
	}
	if err := s.revoke(ctx, lease); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	s.mu.Lock()
	s.lease = 0
	s.mu.Unlock()
	return nil
}

// giveUp ends the lease of a Join.
func (s *session) giveUp(ctx context.Context) error {
	if s.lease == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return s.revoke(ctx, s.lease)
}

// revoke ends a lease, and with it the key that is bound to it.
func (s *session) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if _, err := s.m.client.Revoke(ctx, lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("end the lease in etcd: %w", err)
	}
	return nil
}
