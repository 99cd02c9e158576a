package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/superfly/ltx"
)

// Stats is what a Log has written, and what it has that the prefixes lack.
type Stats struct {
	Epoch   uint64 // 0: nothing was written yet
	Objects int64  // written, and acknowledged
	Files   int64  // in them
	Bytes   int64  // of these files
	Queued  int    // files that the store has not acknowledged
	Pending int    // objects that hold what a prefix lacks, former logs' included
	Tails   int    // tenants whose prefix lacks something
	// TailBytes is the size of what the prefixes lack.
	TailBytes int64
	Unpacks   int64 // tails that this process has written to their prefixes
	Fenced    bool  // another process has taken over
}

// Stats returns the counters. It makes no request.
func (l *Log) Stats() (s Stats) {
	if j := l.cfg.Journal; j != nil {
		js := j.Stats()
		s = Stats{Epoch: js.Epoch, Objects: js.Objects, Files: js.Files, Bytes: js.Bytes, Queued: js.Queued, Fenced: js.Fenced}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Pending, s.Tails, s.TailBytes, s.Unpacks = len(l.pending), len(l.tails), l.tailBytes, l.unpacks
	return s
}

// Tail is what the prefix of one tenant lacks.
type Tail struct {
	Prefix   string
	Files    int   // that were taken
	Bytes    int64 // of them, as far as they are not merged in memory
	Min, Max ltx.TXID
	// Durable is whether the log has acknowledged all of it.
	Durable bool
}

// Tails are those of all tenants that have one, in the order of their prefixes.
func (l *Log) Tails() []Tail {
	l.mu.Lock()
	all := make([]Tail, 0, len(l.tails))
	for prefix := range l.tails {
		all = append(all, l.tailLocked(prefix))
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Tail) int { return cmp.Compare(a.Prefix, b.Prefix) })
	return all
}

// Tail is that of one tenant; it has no files if the prefix lacks nothing.
func (l *Log) Tail(prefix string) Tail {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tailLocked(prefix)
}

func (l *Log) tailLocked(prefix string) Tail {
	t := Tail{Prefix: prefix, Durable: true}
	for _, f := range l.tails[prefix] {
		if t.Files == 0 {
			t.Min = f.min
		}
		t.Files, t.Bytes, t.Max = t.Files+f.files(), t.Bytes+f.size, f.max
		t.Durable = t.Durable && f.durable
	}
	return t
}

// addLocked adds a file to the tail of a prefix.
func (l *Log) addLocked(prefix string, f *tailFile) {
	l.tails[prefix] = append(l.tails[prefix], f)
	l.tailBytes += f.size
	if f.durable {
		l.pending[f.place]++
	}
}

// removeLocked removes those files from the tail of a prefix for which gone is true.
func (l *Log) removeLocked(prefix string, gone func(*tailFile) bool) {
	tail := slices.DeleteFunc(l.tails[prefix], func(f *tailFile) bool {
		if !gone(f) {
			return false
		}
		l.tailBytes -= f.size
		if f.durable {
			for o := range f.places() {
				if l.pending[o]--; l.pending[o] == 0 {
					delete(l.pending, o)
				}
			}
		}
		l.forgetLocked(f)
		return true
	})
	if l.tails[prefix] = tail; len(tail) == 0 {
		delete(l.tails, prefix)
	}
}

// Prefixes are those of the tenants that have a tail.
func (l *Log) Prefixes() (all []string) {
	for _, t := range l.Tails() {
		all = append(all, t.Prefix)
	}
	return all
}

// Former are the prefixes of the tenants of which a log that was taken over has something
// that the prefix may lack. It is called when the log has begun.
func (l *Log) Former(ctx context.Context) (prefixes []string, err error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	own := l.cfg.Journal.Stats().Epoch
	l.mu.Lock()
	defer l.mu.Unlock()
	for prefix, tail := range l.tails {
		if f := tail[0]; f.durable && f.place.epoch != own {
			prefixes = append(prefixes, prefix)
		}
	}
	slices.Sort(prefixes)
	return prefixes, nil
}
