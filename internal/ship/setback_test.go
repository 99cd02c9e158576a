package ship

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

// TestAFileThatWasSetBackIsFingerprintedWithoutWaiting, and only while it is what it was.
func TestAFileThatWasSetBackIsFingerprintedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	made := func(back time.Duration) fsid.Fingerprint {
		if err := os.WriteFile(path, make([]byte, 512), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := fsid.Stat(path)
		if err == nil {
			err = os.Chtimes(path, time.Time{}, time.Unix(0, p.Mtime).Add(-back))
		}
		if err == nil {
			p, err = fsid.Stat(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// Nobody who waits comes to an end, as no time passes and the context has ended.
	s := New(Config{Now: func() time.Time { return time.Unix(1, 0) }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	was := made(5 * time.Second)
	if got, err := s.FingerprintSetBack(ctx, path, was.Mtime); err != nil || got != was {
		t.Errorf("%+v, %v; want %+v", got, err, was)
	}
	if _, err := s.FingerprintSetBack(ctx, path, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("it is not known what the mtime was set to: %v", err)
	}
	// In the same tick.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 512), 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if now, err := fsid.Stat(path); err != nil || now.Mtime == was.Mtime {
		t.Errorf("a write leaves the mtime: %+v, %v", now, err)
	}
	if _, err := s.FingerprintSetBack(ctx, path, was.Mtime); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody has written to it: %v", err)
	}
	// As a program does that keeps the times of what it copies.
	if err := os.Chtimes(path, time.Time{}, time.Unix(0, was.Mtime).Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FingerprintSetBack(ctx, path, was.Mtime); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody has written to it, and set the mtime: %v", err)
	}
	if was = made(time.Millisecond); was.Tick() < time.Second {
		if _, err := s.FingerprintSetBack(ctx, path, was.Mtime); !errors.Is(err, context.Canceled) {
			t.Errorf("set back by less than a tick: %v", err)
		}
	}
}
