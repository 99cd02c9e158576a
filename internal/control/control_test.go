package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fleet []Tenant

func (f fleet) Fleet(maxLag time.Duration) Fleet {
	s := Fleet{Databases: len(f), Healthy: true}
	for _, t := range f {
		if t.Lag > maxLag {
			s.Healthy, s.Worst = false, append(s.Worst, t)
		}
	}
	return s
}

func (f fleet) Tenants() iter.Seq[Tenant] {
	return func(yield func(Tenant) bool) {
		for _, t := range f {
			if !yield(t) {
				return
			}
		}
	}
}

func (f fleet) Tenant(id string) (Tenant, error) {
	for _, t := range f {
		if t.ID == id {
			return t, nil
		}
	}
	return Tenant{}, ErrNotFound
}

func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, dir string, f fleet) *Client {
	t.Helper()
	s, err := Serve(dir, f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in the directory: %v, %v", left, err)
		}
	})
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestWhatIsServedIsRead(t *testing.T) {
	var f fleet
	for i := range 3000 {
		f = append(f, Tenant{ID: fmt.Sprintf("p/%d ü?&", i), Tier: "hot", Lag: time.Duration(i)})
	}
	c := serve(t, stateDir(t), f)
	i := 0
	for got, err := range c.Tenants(t.Context()) {
		if err != nil || got != f[i] {
			t.Fatalf("tenant %d: %+v, %v", i, got, err)
		}
		i++
	}
	if i != len(f) {
		t.Errorf("%d of %d tenants", i, len(f))
	}
	if got, err := c.Tenant(t.Context(), f[7].ID); err != nil || got != f[7] {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Tenant(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	if got, err := c.Fleet(t.Context(), 2997); err != nil || got.Healthy || len(got.Worst) != 2 || got.Databases != 3000 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Fleet(t.Context(), -1); err == nil || !strings.Contains(err.Error(), "max_lag") {
		t.Errorf("a negative lag: %v", err)
	}
}

func TestADirectoryThatOthersCanWriteIsRefusedOnBothSides(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702, 0o1777} {
		dir := stateDir(t)
		serve(t, dir, nil)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if s, err := Serve(dir, fleet{}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrUnsafe) {
			t.Errorf("mode %v: Serve: %v", mode, errors.Join(err, s.Close(t.Context())))
		}
		if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %v: Dial: %v", mode, err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSocketIsForItsOwnerOnly(t *testing.T) {
	dir := stateDir(t)
	serve(t, dir, nil)
	info, err := os.Stat(filepath.Join(dir, Socket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestASocketLeftByACrashIsNobodyAndIsReplaced(t *testing.T) {
	dir := stateDir(t)
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, Socket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with one that was left: %v", err)
	}
	c := serve(t, dir, fleet{{ID: "a"}})
	if _, err := c.Tenant(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestADeepStateDirectoryIsServed(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc/self/fd")
	}
	dir := filepath.Join(stateDir(t), strings.Repeat("deep/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := serve(t, dir, fleet{{ID: "a"}})
	if _, err := c.Tenant(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestTheSocketSaysWhenItsProcessWasSeenLast(t *testing.T) {
	dir := stateDir(t)
	if at := Seen(dir); !at.IsZero() {
		t.Errorf("seen at %v where nobody was", at)
	}
	path := filepath.Join(dir, Socket)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{path: path, ended: make(chan struct{})}
	beats := make(chan time.Time)
	s.joined.Go(func() { s.tick(beats) })
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	beats <- at.Add(-time.Hour)
	beats <- at
	close(s.ended)
	s.joined.Wait()
	if got := Seen(dir); !got.Equal(at) {
		t.Errorf("seen at %v, want %v", got, at)
	}
}
