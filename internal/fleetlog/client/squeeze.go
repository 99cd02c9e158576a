package client

import (
	"bytes"
	"io"
	"slices"
	"time"

	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/superfly/ltx"
)

// squeezeFiles is how many durable files of a tail are merged in memory: a hot tenant
// writes the same few pages again and again, and all that is unpacked of it is the last of
// each. Fewer would be encoded anew too often.
const squeezeFiles = 8

// span is objects of one epoch, each of which has one file of a tenant.
type span struct{ epoch, from, to uint64 }

// each calls f for each object that a file of a tail came from.
func (f *tailFile) each(call func(object)) {
	if f.spans == nil {
		call(f.place)
	}
	for _, s := range f.spans {
		for seq := s.from; seq <= s.to; seq++ {
			call(object{s.epoch, seq})
		}
	}
}

// squeeze merges what a tail has in memory into one file, when it is worth it. It is called
// by the tenant's one writer. A prefix that was not unpacked yet by this process, or of which
// that failed, is listed then, and what was found there must end where a file of the tail does.
func (l *Log) squeeze(prefix string) {
	l.mu.Lock()
	tail := l.tails[prefix]
	var run []*tailFile
	var sum int64
	if l.known[prefix] != 0 {
		for _, f := range tail {
			if !f.durable || f.large != 0 || f.data == nil || sum+f.size > pieceBytes {
				break
			}
			run, sum = append(run, f), sum+f.size
		}
	}
	if len(run) < squeezeFiles {
		l.mu.Unlock()
		return
	}
	var files []io.Reader
	for _, f := range run {
		files = append(files, bytes.NewReader(f.data)) // which may be forgotten meanwhile, but not changed
	}
	l.mu.Unlock()
	var merged bytes.Buffer
	hdr, _, err := ltxfile.Merge(&merged, files)
	if err != nil {
		return // such as two page sizes, where Unpack cuts
	}
	m := &tailFile{
		min: run[0].min, max: hdr.MaxTXID, created: time.UnixMilli(hdr.Timestamp).UTC(), writer: hdr.NodeID,
		data: slices.Clone(merged.Bytes()), size: int64(merged.Len()), durable: true,
	}
	for _, f := range run {
		f.each(m.add)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tail = l.tails[prefix]
	if len(tail) < len(run) || !slices.Equal(tail[:len(run)], run) {
		return // unpacked meanwhile
	}
	for _, f := range run {
		l.tailBytes -= f.size
		l.forgetLocked(f)
	}
	l.tails[prefix] = append([]*tailFile{m}, tail[len(run):]...)
	l.tailBytes, l.memory = l.tailBytes+m.size, l.memory+m.size
}

// add notes one more object, which is newer than the others.
func (f *tailFile) add(o object) {
	if n := len(f.spans); n > 0 && f.spans[n-1].epoch == o.epoch && f.spans[n-1].to+1 == o.seq {
		f.spans[n-1].to = o.seq
		return
	}
	f.spans = append(f.spans, span{o.epoch, o.seq, o.seq})
}

// has reports whether a transaction is inside of a file that was merged from several.
func (f *tailFile) has(txid ltx.TXID) bool { return f.spans != nil && f.min <= txid && txid < f.max }

// pressed reports whether the memory is short, and a tail has some of it that is worth a
// request.
func (l *Log) pressed(prefix string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory > l.cfg.MaxMemory && slices.ContainsFunc(l.tails[prefix], func(f *tailFile) bool { return f.durable && f.data != nil })
}
