package watch

import (
	"container/heap"
	"math/rand/v2"
	"strings"
	"time"
)

// A directory that cannot be watched is looked at pollActive after a change, and then
// after twice as long each time, up to pollQuiet. If looking at so many quiet ones would
// take more than one pollShare-th of the time, they wait longer.
//
// The kernel has a limit of watches for each user, which all programs share. Without
// polling, a change in a directory beyond it would be seen only by the next scan:
// TestWhereTheKernelHasNoWatchLeftNothingIsMissed.
const (
	pollActive = 250 * time.Millisecond
	pollQuiet  = 30 * time.Second
	pollShare  = 50
)

// polls holds the directories to look at, the next one first.
type polls struct {
	byDir map[string]*polled
	queue pollQueue
	cost  time.Duration // of one look, a moving average
}

// polled is a directory that is looked at.
type polled struct {
	dir   string
	since Since
	next  time.Time
	every time.Duration
	index int32 // in the queue
}

// Since is what a look at a directory passes to the next look. The zero value is that
// of a directory that was not looked at yet. Only the Handler gives it a meaning.
type Since struct {
	Stamp int64 // of the newest file in it
	Moved bool  // Stamp was new at the last look
}

func newPolls() polls { return polls{byDir: map[string]*polled{}} }

// add begins to look at a directory: soon if it is new, otherwise at a random time
// within the interval of a quiet one.
func (p *polls) add(dir string, fresh bool, now time.Time) {
	if p.byDir[dir] != nil {
		return
	}
	it := &polled{dir: strings.Clone(dir), every: pollActive, next: now.Add(pollActive)}
	if !fresh {
		it.every = p.quiet()
		it.next = now.Add(rand.N(it.every))
	}
	p.byDir[it.dir] = it
	heap.Push(&p.queue, it)
}

func (p *polls) remove(dir string) {
	if it := p.byDir[dir]; it != nil {
		delete(p.byDir, dir)
		heap.Remove(&p.queue, int(it.index))
	}
}

// removeUnder removes a directory and all that are below it.
func (p *polls) removeUnder(dir string) {
	for path := range p.byDir {
		if within(path, dir) {
			p.remove(path)
		}
	}
}

func (p *polls) quiet() time.Duration {
	return max(pollQuiet, p.cost*pollShare*time.Duration(len(p.byDir)))
}

// due returns the next directory and when to look at it.
func (p *polls) due() (*polled, time.Time, bool) {
	if len(p.queue) == 0 {
		return nil, time.Time{}, false
	}
	return p.queue[0], p.queue[0].next, true
}

// looked notes what a look at the directory found, and how long it took.
func (p *polls) looked(it *polled, since Since, now time.Time, cost time.Duration) {
	p.cost += (cost - p.cost) / 16
	it.since = since
	if since.Moved {
		it.every = pollActive
	} else {
		it.every = min(2*it.every, p.quiet())
	}
	it.next = now.Add(it.every)
	if p.byDir[it.dir] == it {
		heap.Fix(&p.queue, int(it.index))
	}
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(dir, "/"))
}

type pollQueue []*polled

func (q pollQueue) Len() int           { return len(q) }
func (q pollQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q pollQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}
func (q *pollQueue) Push(x any) {
	it := x.(*polled)
	it.index = int32(len(*q))
	*q = append(*q, it)
}
func (q *pollQueue) Pop() any {
	old := *q
	n := len(old) - 1
	it := old[n]
	old[n] = nil
	*q = old[:n]
	return it
}
