// Package member says what the nodes of a cluster know of each other: who there is, and
// where. It is for routing and for who acts first; no promise of multidb rests on it, as
// the fleet log decides who owns what.
package member

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNameTaken is returned by Join when another process that is alive has the name.
var ErrNameTaken = errors.New("another node of this name is alive")

// ErrInvalid is returned for a Member that nobody could know or tell of.
var ErrInvalid = errors.New("not a node of a cluster")

// Member is one node, as the others see it.
type Member struct {
	// Name is the node's, unique in the cluster: a machine's or a pod's, which stays the same
	// when the process is started anew on the same disk. 1 to 63 letters, digits, dots, hyphens
	// and underscores, the first a letter or a digit.
	Name string `json:"name"`
	// URL is where the application of the node is reached by the others, such as
	// "http://10.0.0.7:8080"; empty: not at all.
	URL string `json:"url,omitempty"`
	// Life is the process life, a random hexadecimal number: two of one node differ.
	Life string `json:"life"`
	// Version is that of multidb, for people.
	Version string `json:"version,omitempty"`
	// Draining: it gives away what it has, and takes nothing.
	Draining bool `json:"draining,omitempty"`
}

// Check refuses a Member that has no usable name or life. The error wraps ErrInvalid.
func (m Member) Check() error {
	if err := CheckName(m.Name); err != nil {
		return err
	}
	if m.Life == "" || len(m.Life) > 64 || strings.Trim(m.Life, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: the life %.80q; want a hexadecimal number in small letters", ErrInvalid, m.Life)
	}
	return nil
}

// CheckName refuses what is no name of a node. The error wraps ErrInvalid.
func CheckName(name string) error {
	const others = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	if name == "" || len(name) > 63 || strings.Trim(name, others+"._-") != "" || strings.Trim(name[:1], others) != "" {
		return fmt.Errorf("%w: the name %.80q; want 1 to 63 letters, digits, dots, hyphens and underscores, the first a letter or a digit", ErrInvalid, name)
	}
	return nil
}

// Membership lets nodes know of each other. Safe for concurrent use.
type Membership interface {
	// Join makes this process a member until its Session has left, and tells of it to the others,
	// also after what keeps the members was away: it goes on trying by itself. It returns when
	// the members that there are by now are known.
	//
	// ended is the Life of the former process of this node, which is known to have ended; empty:
	// it is not known whether there was one. If another process has the name that is or may be
	// alive, Join waits until it is known to be gone, and returns ErrNameTaken if it is
	// alive. ctx bounds the joining alone.
	Join(ctx context.Context, self Member, ended string) (Session, error)
}

// Session is what one process is told as a member. Safe for concurrent use.
type Session interface {
	// Members returns those that are alive as far as is known, this one among them, by name. It
	// makes no request. A member is alive that has said so lately; one that has gone, left or
	// was silent for too long is not among them. Where the others cannot be asked at all, those that
	// were known last stay.
	Members() []Member
	// Changed returns a channel that is closed when Members would return something else
	// than it does now.
	Changed() <-chan struct{}
	// Update changes what the others are told: URL, Version and Draining. It returns when they can be
	// told; ctx bounds the waiting.
	Update(ctx context.Context, self Member) error
	// Err is why the others cannot be told of this process, or cannot be asked, now; nil: they can.
	Err() error
	// Leave ends the Session: the others see at once that this process is gone. It is an error
	// if they could not be told; they find out by themselves then. ctx bounds the waiting.
	Leave(ctx context.Context) error
}
