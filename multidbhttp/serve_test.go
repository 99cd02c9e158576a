package multidbhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestAnAddressThatOthersCanReachNeedsAToken(t *testing.T) {
	closed := newServer(t, unstarted(t), Options{})
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "10.0.0.7:0", "example.com:0", "localhost.example.com:0"} {
		if l, err := closed.Listen(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "no token") {
			t.Errorf("%s: %v, %v", addr, l, err)
		}
	}
	if _, err := closed.Listen(t.Context(), "9460"); err == nil || !strings.Contains(err.Error(), DefaultAddr) {
		t.Errorf("without a host: %v", err)
	}
	for addr, opt := range map[string]Options{"127.0.0.1:0": {}, "localhost:0": {}, "0.0.0.0:0": {Token: token}, ":0": {Authenticated: true}} {
		l, err := newServer(t, unstarted(t), opt).Listen(t.Context(), addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	// A listener that was made elsewhere, too.
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "no token") {
		t.Errorf("got %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

func TestServeAnswersUntilItsContextEnds(t *testing.T) {
	s := newServer(t, unstarted(t), Options{})
	l, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(t.Context(), l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is taken: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	client := &http.Client{Transport: &http.Transport{}}
	get := func() (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if text, err := get(); err != nil || text != "ok\n" {
		t.Errorf("%q, %v", text, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := get(); err == nil {
		t.Error("it answers still")
	}
	if n := len(s.history.all()); n == 0 {
		t.Error("it took no sample")
	}
	client.CloseIdleConnections()
}

func TestServeSaysWhyItCannotGoOn(t *testing.T) {
	s := newServer(t, unstarted(t), Options{})
	l, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
