package control

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// limit is a listener with at most maxConns connections, so that a flood of them takes
// no descriptor that replication needs. It still accepts new ones: the oldest that has
// sent no request yet is closed for it, or else the oldest of all if it is old enough
// (pushable). An operator is answered even while somebody keeps opening connections.
type limit struct {
	net.Listener

	mu    sync.Mutex
	conns []*conn // open, in the order they came
}

// conn is a connection that counts towards the limit.
type conn struct {
	net.Conn
	limit *limit
	since time.Time
	asked bool // guarded by limit.mu
}

func newLimit(l net.Listener) *limit { return &limit{Listener: l} }

// Accept returns the next connection that there is room for.
func (l *limit) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		admitted := &conn{Conn: c, limit: l, since: time.Now()}
		out := l.admit(admitted)
		if out != nil {
			_ = out.Close() // this loses nothing: its client asks again
		}
		if out != admitted {
			return admitted, nil
		}
	}
}

// admit adds a connection and returns the one to close for it, if any; that may be the
// new one.
func (l *limit) admit(c *conn) (out *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	if len(l.conns) <= maxConns {
		return nil
	}
	for _, old := range l.conns[:maxConns] {
		if !old.asked {
			return old
		}
	}
	if old := l.conns[0]; c.since.Sub(old.since) >= pushable {
		return old
	}
	return c
}

// Close closes the connection and makes room for another.
func (c *conn) Close() error {
	c.limit.mu.Lock()
	for i, open := range c.limit.conns {
		if open == c {
			c.limit.conns = append(c.limit.conns[:i:i], c.limit.conns[i+1:]...)
			break
		}
	}
	c.limit.mu.Unlock()
	return c.Conn.Close()
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// asked notes that a connection has sent a request.
func asked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.limit.mu.Lock()
			c.asked = true
			c.limit.mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}
