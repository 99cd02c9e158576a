package multidbhttp

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

const (
	pointsFor     = time.Minute      // an answer of the replica is given again for so long
	pointsKept    = 16               // of so many databases
	pointsTimeout = 20 * time.Second // for the replica to answer
	maxListings   = 4                // at once
)

// points are the restore points that the replica was asked for last. Safe for concurrent use.
type points struct {
	listing chan struct{}

	mu   sync.Mutex
	kept map[multidb.ID]listing
}

type listing struct {
	at     time.Time
	points []point // the newest first
}

// point is a transaction that a restore can end at.
type point struct {
	txid    multidb.TXID
	created time.Time
	whole   bool
	level   int
	bytes   int64
}

func (p *points) init() {
	p.listing = make(chan struct{}, maxListings)
	p.kept = map[multidb.ID]listing{}
}

// recall is an answer that is not old yet.
func (p *points) recall(id multidb.ID, now time.Time) (listing, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.kept[id]
	return l, ok && now.Sub(l.at) < pointsFor
}

func (p *points) keep(id multidb.ID, l listing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.kept[id]; !known && len(p.kept) >= pointsKept {
		oldest := id
		for other, k := range p.kept {
			if oldest == id || k.at.Before(p.kept[oldest].at) {
				oldest = other
			}
		}
		delete(p.kept, oldest)
	}
	p.kept[id] = l
}

func (p *points) forget(id multidb.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, id)
}

// restorePoints asks the replica what a database can be restored to, by one listing, unless
// it was asked within a minute.
func (s *Server) restorePoints(ctx context.Context, id multidb.ID) (listing, error) {
	if l, ok := s.points.recall(id, time.Now()); ok {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pointsTimeout)
	defer cancel()
	select {
	case s.points.listing <- struct{}{}:
		defer func() { <-s.points.listing }()
	case <-ctx.Done():
		return listing{}, ctx.Err()
	}
	files, err := s.m.ReplicaFiles(ctx, id, false)
	if err != nil {
		return listing{}, err
	}
	l := listing{at: time.Now(), points: pointsOf(files)}
	s.points.keep(id, l)
	return l, nil
}

// pointsOf are the ends of the files, each once: of several files that end at one, the one
// of the lowest level has the time that is nearest to the commit.
func pointsOf(files []*ltx.FileInfo) []point {
	at := map[ltx.TXID]point{}
	for _, f := range files {
		p := point{txid: f.MaxTXID, created: f.CreatedAt, whole: f.MinTXID == 1, level: f.Level, bytes: f.Size}
		if other, ok := at[f.MaxTXID]; ok {
			whole := other.whole || p.whole
			if other.level < p.level {
				p = other
			}
			p.whole = whole
		}
		at[f.MaxTXID] = p
	}
	all := make([]point, 0, len(at))
	for _, p := range at {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b point) int { return cmp.Compare(b.txid, a.txid) })
	return all
}
