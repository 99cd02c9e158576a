package multidb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/multidb-go/multidb/internal/durable"
)

// identityFile is the memory of a Manager's replica, in the state directory.
const identityFile = "replica.json"

// maxIdentityFile bounds it, in bytes.
const maxIdentityFile = 1 << 20

// identityMemory implements IdentityMemory for a Manager.
type identityMemory struct {
	path   string
	closed func() bool

	mu    sync.Mutex // held during I/O: there is one write in a state directory's life
	known map[string]string
}

// savedIdentities is what the file holds.
type savedIdentities struct {
	Format int               `json:"format"`
	Places map[string]string `json:"places"` // identity of each
}

// identify gives the replica the memory of its identity, if it has one.
func (m *Manager) identify() error {
	r, ok := m.cfg.replica.(ReplicaIdentity)
	if !ok {
		return nil
	}
	mem := &identityMemory{path: filepath.Join(m.dir, identityFile), closed: func() bool { return m.ctx.Err() != nil }}
	if err := mem.load(); err != nil {
		return err
	}
	return r.Identify(mem)
}

func (s *identityMemory) load() error {
	s.known = map[string]string{}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIdentityFile))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var saved savedIdentities
	if err := json.Unmarshal(data, &saved); err != nil {
		return fmt.Errorf("%s, which tells the replica from another: %w; delete it if the right volume is mounted", s.path, err)
	}
	maps.Copy(s.known, saved.Places)
	return nil
}

func (s *identityMemory) Recall(place string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[place], nil
}

func (s *identityMemory) Remember(place, identity string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return ErrClosed
	}
	if s.known[place] == identity {
		return nil
	}
	places := maps.Clone(s.known)
	places[place] = identity
	data, err := json.MarshalIndent(savedIdentities{Format: 1, Places: places}, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("remember the replica: %w", err)
	}
	s.known = places
	return nil
}

func (s *identityMemory) Name() string { return s.path }
