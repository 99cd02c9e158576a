package multidb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"
)

// The bytes of an entry are paid 100,000 times.
func TestAnEntryIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > 208 {
		t.Errorf("an entry has %d bytes, more than its size class of 208", n)
	}
}

// TestARemovedEntryStillKnowsThatItHadAFile: an Acquire of it that is under way
// would otherwise make an empty one in its place. Nobody finds it by the file.
func TestARemovedEntryStillKnowsThatItHadAFile(t *testing.T) {
	m, e := held(t)
	file := e.File
	m.mu.Lock()
	known := m.reg.ByFile(file) == e
	m.removeLocked(e)
	found := m.reg.ByFile(file)
	m.unlock()
	if !known || found != nil {
		t.Errorf("found by its file: %v before, %v after", known, found)
	}
	if err := os.Remove(e.Path); err != nil {
		t.Fatal(err)
	}
	if err := m.ensureFile(t.Context(), e); !errors.Is(err, ErrMissing) {
		t.Errorf("an Acquire under way: %v", err)
	}
}

// held is a Manager with one database, which an Acquire is about to open.
func held(t *testing.T) (*Manager, *entry) {
	t.Helper()
	root := t.TempDir()
	path := filepath.Join(root, "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := started(t, WithDiscoverer(Glob(filepath.Join(root, "{{database}}.db"))), WithWatch(false), WithScanInterval(time.Hour))
	e, err := m.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.letGo(e) })
	return m, e
}

// started is a Manager that is closed when the test ends.
func started(t *testing.T, opts ...Option) *Manager {
	t.Helper()
	m, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}
