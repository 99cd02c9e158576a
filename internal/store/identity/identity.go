// Package identity remembers, in a small file, the identity of each place that a
// replica is kept at. It touches that file only. Its lock is held while the file is
// written, which happens once in the life of a place.
package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"

	"github.com/multidb-go/multidb/internal/durable"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Memory is the file, and what is in it. Safe for concurrent use.
type Memory struct {
	path   string
	closed func() error

	mu    sync.Mutex // held during I/O: a state directory sees one write in its life
	known map[string]string
}

// saved is what the file holds.
type saved struct {
	Format int               `json:"format"`
	Places map[string]string `json:"places"` // identity of each
}

// Open reads the file at path, which need not be there. Where closed returns an
// error, the memory is no longer used, and Remember returns that error.
func Open(path string, closed func() error) (*Memory, error) {
	m := &Memory{path: path, closed: closed}
	return m, m.load()
}

func (m *Memory) load() error {
	m.known = map[string]string{}
	f, err := os.Open(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var all saved
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s, which tells the replica from another: %w; delete it if the right volume is mounted", m.path, err)
	}
	maps.Copy(m.known, all.Places)
	return nil
}

// Recall returns the identity of a place, "" if none is known.
func (m *Memory) Recall(place string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[place], nil
}

// Remember keeps the identity of a place; when it returns nil it is on disk.
func (m *Memory) Remember(place, identity string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.closed(); err != nil {
		return err
	}
	if m.known[place] == identity {
		return nil
	}
	places := maps.Clone(m.known)
	places[place] = identity
	data, err := json.MarshalIndent(saved{Format: 1, Places: places}, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(m.path, append(data, '\n')); err != nil {
		return fmt.Errorf("remember the replica: %w", err)
	}
	m.known = places
	return nil
}

// Name returns the path of the file.
func (m *Memory) Name() string { return m.path }
