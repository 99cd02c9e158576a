package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// halfOpen connects and sends the beginning of a question.
func halfOpen(t *testing.T, dir string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(dir, Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // to be sure
	// It may have been closed already, to make room for another.
	if _, err := io.WriteString(c, "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n"); err != nil && !strings.Contains(err.Error(), "broken pipe") {
		t.Fatal(err)
	}
	return c
}

// ended waits until the other side has closed c, and reports whether it has until
// the deadline.
func ended(t *testing.T, c net.Conn, deadline time.Time) bool {
	t.Helper()
	if err := c.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestAFloodOfConnectionsTakesFewDescriptorsAndKeepsNobodyOut(t *testing.T) {
	dir := stateDir(t)
	client := serve(t, dir, fleet{{ID: "a"}})
	var held []net.Conn
	for i := range 400 {
		held = append(held, halfOpen(t, dir))
		if i%100 == 99 {
			ctx, cancel := context.WithTimeout(t.Context(), askTimeout/2)
			if got, err := client.Tenant(ctx, "a"); err != nil || got.ID != "a" {
				t.Errorf("with %d half-open ones: %+v, %v", i+1, got, err)
			}
			cancel()
		}
	}
	for _, c := range held[:len(held)-maxConns] {
		if !ended(t, c, time.Now().Add(askTimeout)) {
			t.Fatal("one of the older ones is open")
		}
	}
}

func TestAQuestionThatDoesNotEndIsGivenUp(t *testing.T) {
	t.Parallel() // with the test below
	dir := stateDir(t)
	serve(t, dir, nil)
	began := time.Now()
	if !ended(t, halfOpen(t, dir), began.Add(6*askTimeout)) {
		t.Errorf("it is open after %v", time.Since(began))
	}
}

func TestAQuestionAboveTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	client := serve(t, stateDir(t), fleet{{ID: strings.Repeat("ü", 4096)}})
	if _, err := client.Tenant(t.Context(), strings.Repeat("ü", 4096)); err != nil {
		t.Errorf("a long ID: %v", err)
	}
	if _, err := client.Tenant(t.Context(), strings.Repeat("x", 2*maxHeaderBytes)); err == nil || !strings.Contains(err.Error(), "431") {
		t.Errorf("an endless one: %v", err)
	}
}

func TestWhoGivesWayToAConnection(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		asked func(i int) bool
		age   time.Duration // of the oldest
		want  int           // which one is closed; maxConns: the new one
	}{
		{"the oldest that has not asked", func(i int) bool { return i < 3 }, time.Hour, 3},
		{"the oldest of all, if it is old", func(int) bool { return true }, pushable, 0},
		{"the new one, if all are young and are being answered", func(int) bool { return true }, pushable - 1, maxConns},
	} {
		l := newLimit(nil)
		var all []*conn
		for i := range maxConns + 1 {
			here, there := net.Pipe()
			t.Cleanup(func() { _ = there.Close() })
			c := &conn{Conn: here, limit: l, since: now, asked: tt.asked(i)}
			if i == 0 {
				c.since = now.Add(-tt.age)
			}
			all = append(all, c)
			out := l.admit(c)
			switch {
			case i < maxConns && out != nil:
				t.Fatalf("%s: connection %d closes another", tt.name, i)
			case i == maxConns && out != all[tt.want]:
				t.Errorf("%s: not so", tt.name)
			}
		}
		for _, c := range all {
			if err := errors.Join(c.Close(), c.Close()); err != nil {
				t.Error(err)
			}
		}
		if len(l.conns) != 0 {
			t.Errorf("%s: %d are left", tt.name, len(l.conns))
		}
	}
}

func TestAConnectionThatIsAnsweredHasAsked(t *testing.T) {
	l := newLimit(nil)
	c := &conn{limit: l}
	var during bool
	h := asked(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { during = c.asked }))
	r, err := http.NewRequestWithContext(withConn(t.Context(), c), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(nil, r)
	if !during {
		t.Error("it has not")
	}
}
