package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// road is the network between a client and a server: toxiproxy's links and
// toxics behind an accept loop of our own, since toxiproxy's leaves a link
// that breaks in mid-body with its goroutines and buffers for ever.
type road struct {
	t        testing.TB
	addr     string
	upstream string // host:port
	server   *toxiproxy.ApiServer
	proxy    *toxiproxy.Proxy
	hard     atomic.Bool // connections end by a reset
	accepted atomic.Int64

	mu       sync.Mutex
	listener net.Listener // nil: down
	conns    map[net.Conn]struct{}
	joined   sync.WaitGroup
}

func newRoad(t testing.TB, upstream string) *road {
	t.Helper()
	r := &road{t: t, upstream: strings.TrimPrefix(upstream, "http://"), addr: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	r.server = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	r.proxy = toxiproxy.NewProxy(r.server, t.Name(), "", r.upstream)
	r.up()
	t.Cleanup(r.close)
	return r
}

func (r *road) url() string { return "http://" + r.addr }

// up listens, after down on the address of before.
func (r *road) up() {
	var l net.Listener
	// Where connections to the address are still being closed it may be taken.
	ok := eventually(r.t, 10*time.Second, func() string {
		var err error
		if l, err = net.Listen("tcp", r.addr); err != nil {
			return err.Error()
		}
		return ""
	})
	if !ok {
		return
	}
	r.addr = l.Addr().String()
	r.mu.Lock()
	r.listener = l
	r.mu.Unlock()
	r.joined.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.link(client)
		}
	})
}

// down refuses connections and breaks those there are.
func (r *road) down() {
	r.mu.Lock()
	l := r.listener
	r.listener = nil
	conns := r.conns
	r.conns = map[net.Conn]struct{}{}
	r.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	for c := range conns {
		_ = c.Close()
	}
	r.joined.Wait()
}

func (r *road) close() {
	r.clear()
	r.down()
}

func (r *road) link(client net.Conn) {
	server, err := net.Dial("tcp", r.upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	name := fmt.Sprint(r.accepted.Add(1))
	r.mu.Lock()
	up := r.listener != nil
	if up {
		r.conns[client], r.conns[server] = struct{}{}, struct{}{}
	}
	r.mu.Unlock()
	if !up {
		_, _ = client.Close(), server.Close()
		return
	}
	r.proxy.Toxics.StartLink(r.server, name+"u", client, &roadEnd{Conn: server, from: client, r: r}, stream.Upstream)
	r.proxy.Toxics.StartLink(r.server, name+"d", server, &roadEnd{Conn: client, from: server, r: r}, stream.Downstream)
}

// roadEnd is where a link writes to. When nobody reads there any more it goes
// on taking, so that the link runs empty and ends.
type roadEnd struct {
	net.Conn
	from net.Conn
	r    *road
	gone bool
}

func (e *roadEnd) Write(p []byte) (int, error) {
	if !e.gone {
		if _, err := e.Conn.Write(p); err != nil {
			e.gone = true
			_ = e.from.Close()
		}
	}
	return len(p), nil
}

func (e *roadEnd) Close() error {
	if tcp, ok := e.Conn.(*net.TCPConn); ok && e.r.hard.Load() {
		_ = tcp.SetLinger(0)
	}
	e.r.mu.Lock()
	delete(e.r.conns, e.Conn)
	e.r.mu.Unlock()
	return e.Conn.Close()
}

// add puts a toxic on the connections there are and those to come.
func (r *road) add(kind string, dir stream.Direction, attributes map[string]int) {
	r.t.Helper()
	b, err := json.Marshal(map[string]any{"type": kind, "stream": dir.String(), "attributes": attributes})
	if err != nil {
		r.t.Error(err)
		return
	}
	if _, err := r.proxy.Toxics.AddToxicJson(strings.NewReader(string(b))); err != nil {
		r.t.Errorf("%s: %v", kind, err)
	}
}

func (r *road) both(kind string, attributes map[string]int) {
	r.add(kind, stream.Upstream, attributes)
	r.add(kind, stream.Downstream, attributes)
}

// clear takes the toxics away. Connections whose toxic has swallowed something
// are closed by it.
func (r *road) clear() {
	r.hard.Store(false)
	r.proxy.Toxics.ResetToxics(zerolog.Nop().WithContext(context.Background()))
}

// Toxiproxy's toxics that end a link before its source does, which leave the
// rest of it unread: these read it.
type (
	limitData struct{ toxics.LimitDataToxic }
	resetPeer struct{ toxics.ResetToxic }
	silence   struct{ toxics.TimeoutToxic }
)

func (x *limitData) Pipe(s *toxics.ToxicStub) { x.LimitDataToxic.Pipe(s); drain(s) }
func (x *resetPeer) Pipe(s *toxics.ToxicStub) { x.ResetToxic.Pipe(s); drain(s) }
func (x *silence) Pipe(s *toxics.ToxicStub)   { x.TimeoutToxic.Pipe(s); drain(s) }

// Cleanup is called when a silence ends.
func (x *silence) Cleanup(s *toxics.ToxicStub) {
	x.TimeoutToxic.Cleanup(s)
	go drain(s)
}

func drain(s *toxics.ToxicStub) {
	if s.Closed() {
		for c := range s.Input {
			_ = c
		}
	}
}

// registerToxics is called by TestMain. Some toxics log by zerolog's own logger.
func registerToxics() {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	toxics.Register("limit_data", new(limitData))
	toxics.Register("reset_peer", new(resetPeer))
	toxics.Register("timeout", new(silence))
}
