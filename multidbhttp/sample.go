package multidbhttp

import (
	"context"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

const (
	sampleInterval = time.Minute
	samplesKept    = 24 * 60 // a day; 700 KB
)

// sample is what the Manager had counted at one moment. The counters only grow, so that the
// difference of two samples is what happened between them.
type sample struct {
	at               time.Time
	lag              multidb.LagHistogram
	requests         multidb.RequestStats
	transactions     int64
	bytes            int64
	cold, warm, hot  int
	failing, stopped int
	unwell           multidb.ByReason
	replicaBytes     int64
}

func sampleOf(at time.Time, s *multidb.Stats) sample {
	return sample{
		at: at, lag: s.Lag, requests: s.Requests, transactions: s.Transactions, bytes: s.Bytes,
		cold: s.Cold, warm: s.Warm, hot: s.Hot, failing: s.Failing, stopped: s.Stopped, unwell: s.Unwell,
		replicaBytes: s.ReplicaBytes,
	}
}

// history is the samples of the last day. Safe for concurrent use.
type history struct {
	mu   sync.Mutex
	ring []sample // the oldest is at next, once it is full
	next int
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) < samplesKept+1 { // so many ends of a day's intervals, and its begin
		h.ring = append(h.ring, s)
		return
	}
	h.ring[h.next] = s
	h.next = (h.next + 1) % len(h.ring)
}

// all returns the samples, the oldest first.
func (h *history) all() []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append(make([]sample, 0, len(h.ring)+1), h.ring[h.next:]...), h.ring[:h.next]...)
}

// Run takes a sample of Manager.Stats each minute, and keeps those of a day, which is what
// the page shows over time. It returns when ctx ends. One call at a time does that: others
// wait. Serve calls it; a program that mounts the Server in an http.Server of its own calls
// it itself, or goes without.
func (s *Server) Run(ctx context.Context) {
	select {
	case s.sampling <- struct{}{}:
		defer func() { <-s.sampling }()
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		st := s.m.Stats()
		s.history.add(sampleOf(time.Now(), &st))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
