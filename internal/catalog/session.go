package catalog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxSessions bounds how many sessions are remembered, the newest ones. If there are
// more starts between two writes of one database, its last file is no longer known
// as ours.
const maxSessions = 4096

const (
	sessionKey = "session."
	formerKey  = "former."
)

// Sessions are the runs that a state directory is known to have had. A session is
// recorded before its first write to a replica: a file there with this node's ID and
// an unknown session was written by a copy of the directory. Immutable.
type Sessions struct {
	node   uint64
	known  map[uint32]struct{}
	former map[uint32]struct{}
	copied bool
}

// NodeID is Catalog.NodeID, after Begin.
func (s *Sessions) NodeID() uint64 { return s.node }

// Has reports whether a session was one of this directory.
func (s *Sessions) Has(session uint32) bool {
	_, ok := s.known[session]
	return ok
}

// WasCopied reports whether the directory was ever found to be a copy, at this start
// or before. What it knows may then be older than what the other copies have done.
func (s *Sessions) WasCopied() bool { return len(s.former) > 0 }

// Copied reports whether the directory is a copy of the one in which the sessions
// so far were recorded. The copy begins with a new node ID and no sessions.
func (s *Sessions) Copied() bool { return s.copied }

// Begin records a session, on disk when it returns, and returns all that are
// known. Home says where the directory is; see homeOf. It may be called once.
func (c *Catalog) Begin(ctx context.Context, session uint32) (*Sessions, error) {
	s, err := c.begin(ctx, session, homeOf(c.lock))
	if err != nil {
		return nil, fmt.Errorf("catalog: %s: record this session: %w", c.path, err)
	}
	c.nodeID = s.node
	return s, nil
}

func (c *Catalog) begin(ctx context.Context, session uint32, home uint64) (_ *Sessions, err error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	s := &Sessions{node: c.nodeID, known: map[uint32]struct{}{}, former: map[uint32]struct{}{}}
	rows, err := conn.QueryContext(ctx, "SELECT key, value FROM meta")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	was, found, last := int64(0), false, int64(0)
	for rows.Next() {
		var key string
		var value int64
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		if key == "home" {
			was, found = value, true
		} else if hex, ok := strings.CutPrefix(key, sessionKey); ok {
			if n, err := strconv.ParseUint(hex, 16, 32); err == nil { // otherwise it is none of ours
				s.known[uint32(n)] = struct{}{}
				last = max(last, value)
			}
		} else if hex, ok := strings.CutPrefix(key, formerKey); ok {
			if n, err := strconv.ParseUint(hex, 16, 32); err == nil {
				s.former[uint32(n)] = struct{}{}
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if s.copied = found && uint64(was) != home; s.copied {
		clear(s.known)
		s.former[uint32(c.nodeID)] = struct{}{}
		s.node = newNode()
	}
	s.known[session] = struct{}{}
	// Synced: otherwise our own files could have an unknown session after a power
	// failure.
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return nil, err
	}
	script := "BEGIN IMMEDIATE;"
	if s.copied {
		script += fmt.Sprintf("DELETE FROM meta WHERE key GLOB '%s*'; UPDATE meta SET value = %d WHERE key = 'node_id';", sessionKey, int64(s.node))
		script += fmt.Sprintf("INSERT OR REPLACE INTO meta VALUES ('%s%08x', 0);", formerKey, uint32(c.nodeID))
	}
	script += fmt.Sprintf("INSERT OR REPLACE INTO meta VALUES ('home', %d), ('%s%08x', %d);", int64(home), sessionKey, session, last+1)
	script += fmt.Sprintf("DELETE FROM meta WHERE key GLOB '%s*' AND value <= %d; COMMIT;", sessionKey, last+1-maxSessions)
	_, err = conn.ExecContext(ctx, script)
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // there may be nothing to roll back
	}
	_, back := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = NORMAL")
	return s, errors.Join(err, back)
}

// newNode draws a node ID; no half of it is zero.
func newNode() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails
		if n := binary.LittleEndian.Uint64(b[:]); uint32(n) != 0 && n>>32 != 0 {
			return n
		}
	}
}
