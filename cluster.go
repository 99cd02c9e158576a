package multidb

import (
	"fmt"

	"github.com/multidb-go/multidb/internal/member"
)

// Member is one node of a cluster, as the others see it.
type Member = member.Member

// Membership lets the nodes of a cluster know of each other. No promise of Sync rests on it:
// the fleet log decides who owns a database, and what a Membership gets wrong costs time. The
// default keeps the members in the bucket; package etcdmembership keeps them in etcd, and
// multidbtest.NewMembership in memory. multidbtest.RunMembershipConformance
// checks one of your own.
type Membership = member.Membership

// MemberSession is what a Membership tells one process.
type MemberSession = member.Session

// NotOwnerError is returned where a database belongs to another node of the cluster. It wraps
// ErrNotOwner.
type NotOwnerError struct {
	ID    ID
	Owner Owner
}

// Owner is who serves a database.
type Owner struct {
	// Node and URL are those of its node's ClusterConfig; both are empty while nobody serves it,
	// as while it moves, or after a node has died.
	Node, URL string
	// Self: it is this node.
	Self bool
	// Moving: this node knows that it is about to belong to another one, or has just begun to.
	Moving bool
}

func (e *NotOwnerError) Error() string {
	if e.Owner.Node == "" {
		return fmt.Sprintf("%v: %q is served by no node right now", ErrNotOwner, string(e.ID))
	}
	return fmt.Sprintf("%v: %q is served by node %q, %s", ErrNotOwner, string(e.ID), e.Owner.Node, e.Owner.URL)
}

// Unwrap returns ErrNotOwner.
func (e *NotOwnerError) Unwrap() error { return ErrNotOwner }
