package etcdmembership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member"
)

const (
	// DefaultPrefix and DefaultTTL are those of Config.
	DefaultPrefix = "/multidb/members/"
	DefaultTTL    = 5 * time.Second

	maxMembers = 4096
	maxBody    = 4 << 10
)

// Config is where the members are, and how fast a dead one is found out. The zero value is the default. Nodes
// of one cluster have the same.
type Config struct {
	// Prefix begins all keys of a cluster; it should end in a slash. Default "/multidb/members/".
	Prefix string
	// TTL is for how long a node is a member after it was last heard of, in whole seconds. Default 5 s, at
	// least 2 s. etcd takes no less than its own election timeout needs, and adds up to a second.
	TTL time.Duration
}

// Membership is a multidb.Membership in etcd. Safe for concurrent use.
type Membership struct {
	client *clientv3.Client
	cfg    Config
}

var (
	_ multidb.Membership    = (*Membership)(nil)
	_ multidb.MemberSession = (*session)(nil)
)

// New returns a Membership that has done nothing. The client stays the caller's, and must not be closed
// before all sessions have left.
func New(client *clientv3.Client, cfg Config) (*Membership, error) {
	if client == nil {
		return nil, errors.New("etcdmembership: there is no client; make one with clientv3.New")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.TTL < 2*time.Second || cfg.TTL%time.Second != 0 {
		return nil, fmt.Errorf("etcdmembership: a TTL of %v; want whole seconds, at least 2", cfg.TTL)
	}
	return &Membership{client, cfg}, nil
}

// timeout bounds one request.
func (m *Membership) timeout() time.Duration { return max(m.cfg.TTL, 3*time.Second) }

// pause is the time between two attempts.
func (m *Membership) pause() time.Duration { return m.cfg.TTL / 10 }

// unheard is after how long without a word of etcd, which is asked each third of TTL, that is an error.
func (m *Membership) unheard() time.Duration { return m.cfg.TTL * 2 / 3 }

// Join implements multidb.Membership. While etcd cannot be reached it tries on until ctx ends. If the name is
// another's whose lease is renewed, which is seen within two TTL and two seconds, it returns multidb.ErrNameTaken; if
// it is not renewed, it waits until the lease is over.
func (m *Membership) Join(ctx context.Context, self multidb.Member, ended string) (multidb.MemberSession, error) {
	if err := self.Check(); err != nil {
		return nil, err
	}
	if ended == self.Life {
		return nil, fmt.Errorf("%w: its own life %q has ended", member.ErrInvalid, ended)
	}
	body, err := encode(self)
	if err != nil {
		return nil, err
	}
	s := newSession(m, self, body, ended)
	var former rival
	for {
		err := s.claim(ctx)
		var other *takenError
		switch {
		case err == nil:
			if _, err = s.snapshot(ctx, true); err == nil {
				s.start()
				return s, nil
			}
			if errors.Is(err, errLease) {
				s.lease = 0
			}
		case errors.As(err, &other):
			if former.renewed(ctx, m, other) {
				return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, err), s.giveUp(ctx))
			}
		case hopeless(err):
			return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, err), s.giveUp(ctx))
		}
		pause := time.NewTimer(m.pause())
		select {
		case <-pause.C:
			s.hurry()
		case <-ctx.Done():
			pause.Stop()
			return nil, errors.Join(fmt.Errorf("join the cluster as %q: %w", self.Name, context.Cause(ctx)), err, s.giveUp(ctx))
		}
	}
}

// hopeless reports whether an error never gets better by itself.
func hopeless(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrAuthFailed) || errors.Is(err, rpctypes.ErrUserEmpty)
}

// rival is what a Join has seen of the lease of who has its name.
type rival struct {
	lease    int64
	since    time.Time // when it was asked first
	left     int64     // whole seconds, when last asked
	renewals int
}

// renewed reports whether the lease of a rival was surely renewed by it: more than once, as etcd itself prolongs
// all leases when it gets another leader. It was if it has more time left than before, twice, or is there
// for much longer than one that is not renewed.
func (r *rival) renewed(ctx context.Context, m *Membership, other *takenError) bool {
	if other.lease == 0 {
		return true // a key without a lease never goes
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout())
	defer cancel()
	resp, err := m.client.TimeToLive(ctx, clientv3.LeaseID(other.lease))
	if err != nil || resp.TTL <= 0 {
		return false // it is asked again
	}
	if r.lease != other.lease {
		*r = rival{lease: other.lease, since: time.Now(), left: resp.TTL}
		return false
	}
	if resp.TTL > r.left {
		r.renewals++
	}
	r.left = resp.TTL
	return r.renewals >= 2 || time.Since(r.since) > time.Duration(2*resp.GrantedTTL+2)*time.Second
}

// takenError says who has a name.
type takenError struct {
	member multidb.Member
	lease  int64
}

func (e *takenError) Error() string {
	if e.lease == 0 {
		return fmt.Sprintf("%v: %s@%s at %s, by a key that has no lease; delete it if no node made it", multidb.ErrNameTaken, e.member.Name, e.member.Life, e.member.URL)
	}
	return fmt.Sprintf("%v: %s@%s at %s", multidb.ErrNameTaken, e.member.Name, e.member.Life, e.member.URL)
}

func (e *takenError) Unwrap() error { return multidb.ErrNameTaken }

func encode(m multidb.Member) (string, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("%w: %w", member.ErrInvalid, err)
	}
	if len(body) > maxBody {
		return "", fmt.Errorf("%w: it takes %d bytes to tell of it; want at most %d", member.ErrInvalid, len(body), maxBody)
	}
	return string(body), nil
}

// decode reads a key. What no node has written is not ok.
func decode(prefix string, kv *mvccpb.KeyValue) (m multidb.Member, ok bool) {
	name, ok := strings.CutPrefix(string(kv.Key), prefix)
	if !ok || len(kv.Value) > maxBody || json.Unmarshal(kv.Value, &m) != nil || m.Check() != nil || m.Name != name {
		return multidb.Member{}, false
	}
	return m, true
}
