package multidbhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// DefaultAddr is where `multidb replicate -listen` is meant to listen: on this machine alone.
const DefaultAddr = "127.0.0.1:9460"

// shutdownTimeout is how long requests in progress may go on when Serve ends.
const shutdownTimeout = 5 * time.Second

// Listen opens a listener at an address such as "127.0.0.1:9460" or ":9460". Without
// Options.Token (or Options.Authenticated) it refuses an address that other machines can
// reach, and says what to do.
func (s *Server) Listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("multidbhttp: listen at %q: %w; write a host and a port, as %s", addr, err, DefaultAddr)
	}
	if s.opt.Token == "" && !s.opt.Authenticated && !isLoopback(host) {
		return nil, fmt.Errorf("multidbhttp: listen at %q: other machines can reach that, and there is no token; "+
			"listen at %s, or set Options.Token (-listen-token-file)", addr, DefaultAddr)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("multidbhttp: %w", err)
	}
	return l, nil
}

// isLoopback reports whether a host is surely this machine, for nobody else.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Serve answers at a listener until ctx ends, and then lets requests in progress go on for
// 5 s. It closes the listener, samples as Run does, and leaves nothing running. The error is
// nil if ctx ended it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); ok && s.opt.Token == "" && !s.opt.Authenticated && !a.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("multidbhttp: serve at %v: other machines can reach that, and there is no token; set Options.Token", a), l.Close())
	}
	var requests inProgress
	server := &http.Server{
		Handler:           requests.count(s),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute, // verbs get more
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.opt.Logger.Handler(), slog.LevelDebug),
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer requests.join()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() { s.Run(ctx) })
	ended := make(chan error, 1)
	running.Go(func() { ended <- server.Serve(l) })
	select {
	case err := <-ended:
		return fmt.Errorf("multidbhttp: serve: %w", err)
	case <-ctx.Done():
	}
	bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	err := server.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // and with the connections the contexts of what goes on
	}
	if err != nil {
		return fmt.Errorf("multidbhttp: serve: %w", err)
	}
	return nil
}

// inProgress are the requests that are being answered: an http.Server that is closed does
// not wait for them.
type inProgress struct {
	mu     sync.Mutex
	joined bool
	wg     sync.WaitGroup
}

// count is next, and nothing once join was called.
func (p *inProgress) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if p.joined {
			p.mu.Unlock()
			return
		}
		p.wg.Add(1)
		p.mu.Unlock()
		defer p.wg.Done()
		next.ServeHTTP(w, r)
	})
}

func (p *inProgress) join() {
	p.mu.Lock()
	p.joined = true
	p.mu.Unlock()
	p.wg.Wait()
}
