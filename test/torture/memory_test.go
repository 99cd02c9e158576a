package torture

import (
	"cmp"
	"fmt"
	"os"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// memory watches what this process holds while outages run in it.
type memory struct {
	mu      sync.Mutex
	running int
	servers map[s3Server]struct{}
	each    int64 // bytes that an outage may hold; default livePerOutage
	files   int   // descriptors; default filesPerOutage
	most    struct {
		live, allowed int64
		running       int
		files         int
	}
}

// What a Manager with three databases may hold, with its network and an HTTP
// layer in this process: live heap, and descriptors.
const (
	livePerOutage  = 12 << 20
	filesPerOutage = 150
	// filesPerReader is for who reads a fleet log, many objects at once: as many connections
	// as a client may have, and both ends of each are in this process.
	filesPerReader = 2 * 64
)

// enter counts an outage in, and its server; the returned function counts it out.
func (m *memory) enter(s s3Server) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running++
	if m.servers == nil {
		m.servers = map[s3Server]struct{}{}
	}
	m.servers[s] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.running--
		delete(m.servers, s)
	}
}

// live is the heap that the last garbage collection found in use.
func live() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// descriptors is how many files and sockets are open; 0 where it cannot be told.
func descriptors() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(names)
}

// watch checks until the returned function is called.
func (m *memory) watch(t *testing.T) (stop func()) {
	base, files := live(), descriptors()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.check(t, base, files)
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (m *memory) check(t *testing.T, base int64, files int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := int64(0)
	for s := range m.servers {
		held += s.held()
	}
	// One that ended just now may still count in the last collection.
	n := m.running + 2
	now, allowed := live()-base, held+int64(n)*cmp.Or(m.each, livePerOutage)*raceFactor
	if now > m.most.live {
		m.most.live, m.most.allowed, m.most.running = now, allowed, m.running
	}
	if now > allowed {
		t.Errorf("%d outages hold %d MiB, of which the servers are to have %d", m.running, now>>20, held>>20)
	}
	fds := descriptors() - files
	m.most.files = max(m.most.files, fds)
	if fds > n*cmp.Or(m.files, filesPerOutage) {
		t.Errorf("%d outages have %d descriptors open", m.running, fds)
	}
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("at most %d MiB of live heap (allowed %d, with %d outages at once), %d descriptors",
		m.most.live>>20, m.most.allowed>>20, m.most.running, m.most.files)
}
