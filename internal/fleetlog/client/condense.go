package client

import (
	"bytes"
	"io"
	"slices"

	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// run is consecutive files of a tail as one, in memory. A tenant that commits all the time
// writes the same pages again and again: merged they take a fraction of the memory, so that
// unpacking need not read each from its object. The files stay in the tail, without their
// data.
type run struct {
	n    int // files
	data []byte
	sum  ltx.Checksum
}

// runFiles is how many files are merged at once, while memory is not short.
const runFiles = 8

// condense merges the durable files of a tail that are in memory, if there are enough. It
// is called by who writes the tenant, so that the cost is the tenant's.
func (l *Log) condense(prefix string) {
	l.mu.Lock()
	head, files := l.condensableLocked(prefix)
	if files == nil {
		l.mu.Unlock()
		return
	}
	var sources []io.Reader
	before := head.run // never changes
	if before != nil {
		sources = append(sources, untrusted.NewLTX(bytes.NewReader(before.data)))
	}
	for _, f := range files {
		sources = append(sources, untrusted.NewLTX(bytes.NewReader(f.data)))
	}
	l.mu.Unlock()

	var merged bytes.Buffer
	_, trailer, err := ltxfile.Merge(&merged, sources)
	if err != nil {
		return // another page size, for one; unpacking finds out
	}
	after := &run{len(files), bytes.Clone(merged.Bytes()), trailer.FileChecksum}

	l.mu.Lock()
	defer l.mu.Unlock()
	tail := l.tails[prefix]
	from := slices.Index(tail, head)
	if before != nil {
		from += before.n
	}
	to := from + len(files)
	if !slices.Contains(tail, head) || head.run != before || to > len(tail) || !slices.Equal(tail[from:to], files) {
		return // some of it was unpacked meanwhile
	}
	if before != nil {
		after.n += before.n
		l.memory -= int64(len(before.data))
	}
	head.run = after
	l.memory += int64(len(after.data))
	for _, f := range files {
		l.forgetLocked(f)
	}
	if l.shrinkLocked(); l.memory > l.cfg.MaxMemory {
		l.forgetRunLocked(head)
	}
}

// condensableLocked is the files that are to be merged now, and the one that has their run
// or will have it; nil: it is not worth it.
func (l *Log) condensableLocked(prefix string) (head *tailFile, files []*tailFile) {
	tail := l.tails[prefix]
	from := 0
	if l.known[prefix] == 0 {
		from = 1 // the first is unpacked alone
	}
	for i, f := range tail {
		if f.run != nil {
			head, from = f, i+f.run.n
		}
	}
	for from < len(tail) && tail[from].durable && tail[from].data == nil {
		head, from = nil, from+1 // to be read from its object; another run begins behind it
	}
	to, size := from, int64(0)
	for to < len(tail) && tail[to].durable && tail[to].data != nil {
		to, size = to+1, size+tail[to].size
	}
	short := l.memory > l.cfg.MaxMemory/2
	switch n := to - from; {
	case n < 2, n < runFiles && !short:
		return nil, nil
	case head == nil:
		return tail[from], slices.Clone(tail[from:to])
	case size < int64(len(head.run.data))/4: // so that what is merged again is in proportion
		return nil, nil
	}
	return head, slices.Clone(tail[from:to])
}

// forgetRunLocked drops a run: its files are read from their objects then.
func (l *Log) forgetRunLocked(f *tailFile) {
	if f.run != nil {
		l.memory -= int64(len(f.run.data))
		f.run = nil
	}
}
