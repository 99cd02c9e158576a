package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

const (
	// condenseFiles is how many files of a tail are merged at once.
	condenseFiles = 4
	// condenseGrowth bounds the work: a merged file takes part in the merging of newer ones
	// when it is at most so many times as large. So what a commit changes is written a few
	// times, a tail has few merged files, and they have little twice.
	condenseGrowth = 4
)

// parts says what a merged file was made of. Its data is what ltxfile.Pack returns.
type parts struct {
	n    int    // files
	seqs []byte // numbers of the objects that have their records, each as a varint of its distance
	last uint64 // of these numbers
}

func (p *parts) add(seq uint64) {
	p.n, p.seqs, p.last = p.n+1, binary.AppendUvarint(p.seqs, seq-p.last), seq
}

// places are the objects that have the records of a file, one for each record.
func (f *tailFile) places() iter.Seq[object] {
	return func(yield func(object) bool) {
		if f.merged == nil {
			yield(f.place)
			return
		}
		o := object{epoch: f.place.epoch}
		for b := f.merged.seqs; len(b) > 0; {
			d, n := binary.Uvarint(b)
			if o.seq, b = o.seq+d, b[n:]; !yield(o) {
				return
			}
		}
	}
}

// files is how many files were taken of what it has.
func (f *tailFile) files() int {
	if f.merged != nil {
		return f.merged.n
	}
	return 1
}

// condense merges what is durable and in memory of a tenant's tail, so that a tenant that
// stays hot costs memory for the pages that it changes and not for each commit. Nobody else
// sees it: the first file stays, whose name a writer without the log would take (Unpack),
// and so does the last, from which the position in the WAL is found again; the others can be
// read from the objects.
func (l *Log) condense(prefix string) {
	for {
		l.mu.Lock()
		files := condensable(l.tails[prefix])
		parts := make([]tailFile, len(files))
		for i, f := range files {
			parts[i] = *f
		}
		l.mu.Unlock()
		if len(files) == 0 {
			return
		}
		into, err := mergeFiles(parts)
		if err != nil {
			return // Unpack reads the same files, and returns the error
		}
		l.mu.Lock()
		ok := l.replaceLocked(prefix, files, into)
		l.mu.Unlock()
		if !ok {
			return
		}
	}
}

// condensable are the files that are merged next: two merged ones, or many that are not.
func condensable(tail []*tailFile) []*tailFile {
	end := slices.IndexFunc(tail, func(f *tailFile) bool { return !f.durable })
	if end < 0 {
		end = len(tail)
	}
	end-- // the last of them stays

	mayFollow := func(i int) bool { // tail[i-1] and tail[i] may be in one file
		a, b := tail[i-1], tail[i]
		return a.data != nil && b.data != nil && a.pageSize == b.pageSize && a.max+1 == b.min
	}
	begin := end
	for begin > 1 && tail[begin-1].merged == nil && tail[begin-1].data != nil && (begin == end || mayFollow(begin)) {
		begin--
	}
	if i := begin - 1; i > 1 && tail[i].merged != nil && tail[i-1].merged != nil && mayFollow(i) &&
		tail[i-1].size <= condenseGrowth*tail[i].size && tail[i-1].size+tail[i].size <= pieceBytes {
		return slices.Clone(tail[i-1 : i+1])
	}
	if end-begin < condenseFiles {
		return nil
	}
	n, sum := 0, int64(0)
	for n < condenseFiles && sum+tail[begin+n].size <= pieceBytes {
		n, sum = n+1, sum+tail[begin+n].size
	}
	if n < 2 {
		return nil
	}
	return slices.Clone(tail[begin : begin+n])
}

// mergeFiles merges files that are in memory.
func mergeFiles(files []tailFile) (*tailFile, error) {
	data := make([][]byte, len(files))
	first, last := &files[0], &files[len(files)-1]
	into := &tailFile{
		min: first.min, max: last.max, created: last.created, pageSize: first.pageSize,
		place: last.place, durable: true, merged: &parts{},
	}
	for i := range files {
		data[i] = files[i].data
		for o := range files[i].places() {
			into.merged.add(o.seq)
		}
	}
	var err error
	if into.data, err = ltxfile.Pack(data); err != nil {
		return nil, err
	}
	into.size = int64(len(into.data))
	into.merged.seqs = bytes.Clone(into.merged.seqs) // without room to spare
	return into, nil
}

// reader reads a file that was fetched, for ltxfile.Merge.
func (f *tailFile) reader(data []byte) io.Reader {
	if f.merged != nil {
		return ltxfile.NewPacked(data)
	}
	return untrusted.NewLTX(bytes.NewReader(data))
}

// whole returns of a merged file the LTX file that it stands for, and any other as it is.
func (l *Log) whole(ctx context.Context, prefix string, f *tailFile) (*tailFile, error) {
	if f.merged == nil {
		return f, nil
	}
	files := []*tailFile{f}
	var err error
	if f.data == nil {
		if files, err = l.raw(ctx, prefix, files); err != nil {
			return nil, err
		}
	}
	readers := make([]io.Reader, len(files))
	for i, g := range files {
		data, err := l.fetch(ctx, g)
		if err != nil {
			return nil, err
		}
		readers[i] = g.reader(data)
	}
	var b bytes.Buffer
	if _, _, err := ltxfile.Merge(&b, readers); err != nil {
		return nil, err
	}
	return &tailFile{min: f.min, max: f.max, created: f.created, data: b.Bytes(), size: int64(b.Len()), durable: true}, nil
}

// wholes are the files of a tail as they are listed.
func (l *Log) wholes(ctx context.Context, prefix string) ([]*tailFile, error) {
	tail := l.tail(prefix)
	for i, f := range tail {
		var err error
		if tail[i], err = l.whole(ctx, prefix, f); err != nil {
			return nil, err
		}
	}
	return tail, nil
}

// replaceLocked puts a merged file in the place of those that it has. It returns false if
// they were unpacked meanwhile.
func (l *Log) replaceLocked(prefix string, files []*tailFile, into *tailFile) bool {
	tail := l.tails[prefix]
	i := slices.Index(tail, files[0])
	if i < 0 || i+len(files) > len(tail) || !slices.Equal(tail[i:i+len(files)], files) {
		return false
	}
	for _, f := range files {
		l.tailBytes -= f.size
		l.forgetLocked(f)
	}
	tail[i] = into
	l.tails[prefix] = slices.Delete(tail, i+1, i+len(files))
	l.tailBytes += into.size
	l.keepLocked(into)
	return true
}

// keepLocked counts the data of a durable file, and keeps the memory within its bound.
func (l *Log) keepLocked(f *tailFile) {
	l.durable, l.memory, l.kept = append(l.durable, f), l.memory+f.size, l.kept+1
	n := 0
	for n < len(l.durable) && (l.memory > 2*l.cfg.MaxMemory || l.durable[n].data == nil) {
		l.forgetLocked(l.durable[n])
		n++
	}
	l.durable = l.durable[n:]
	if len(l.durable) > 2*l.kept+64 { // an old one is in front of many that are gone
		l.durable = slices.DeleteFunc(l.durable, func(f *tailFile) bool { return f.data == nil })
	}
}

// forgetLocked drops the data of a durable file of this process.
func (l *Log) forgetLocked(f *tailFile) {
	if f.data != nil && f.durable {
		f.data, l.memory, l.kept = nil, l.memory-f.size, l.kept-1
	}
}

// Pressed reports whether the tails of all tenants need more memory than they may, and that
// of this one as much as the average or more, so that it is to be unpacked sooner.
func (c *Client) Pressed() bool {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory <= l.cfg.MaxMemory {
		return false
	}
	var mine int64
	for _, f := range l.tails[c.prefix] {
		if f.durable {
			mine += int64(len(f.data))
		}
	}
	return mine > 0 && mine >= l.memory/int64(len(l.tails))
}

// errInside: a prefix ends between two files of which a tail has only what they are together.
var errInside = errors.New("the prefix ends inside of what the fleet log has merged meanwhile; unpack it again")

// inside reports whether a tail has a merged file that a transaction other than its last is in.
func inside(tail []*tailFile, txid ltx.TXID) bool {
	return slices.ContainsFunc(tail, func(f *tailFile) bool { return f.merged != nil && f.min <= txid && txid < f.max })
}

// dropped reports whether a tail has a merged file that is no longer in memory.
func dropped(tail []*tailFile) bool {
	return slices.ContainsFunc(tail, func(f *tailFile) bool { return f.merged != nil && f.data == nil })
}

// raw returns a tail with the files that were taken in the place of those that were merged,
// to be read from their objects.
func (l *Log) raw(ctx context.Context, prefix string, tail []*tailFile) (files []*tailFile, err error) {
	logs, err := journal.Read(ctx, l.cfg.Objects, journal.Reading{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	taken := map[ltx.TXID]*tailFile{}
	for _, log := range logs {
		for _, r := range log.Records {
			if f := recorded(log, r); r.Prefix == prefix {
				taken[f.min] = f
			}
		}
	}
	for _, f := range tail {
		if f.merged == nil {
			files = append(files, f)
			continue
		}
		for next := f.min; next <= f.max; {
			g := taken[next]
			if g == nil {
				return nil, fmt.Errorf("%w: the fleet log has no transaction %s of %s any more, which its prefix lacks", untrusted.ErrDamaged, next, prefix)
			}
			files, next = append(files, g), g.max+1
		}
	}
	return files, nil
}

// unmerged returns the tail of a prefix, or, if it has these transactions in a merged file
// that has others too, the one file that has just them, as it was taken; none if there is
// none.
func (l *Log) unmerged(ctx context.Context, prefix string, minTXID, maxTXID ltx.TXID) ([]*tailFile, error) {
	tail := l.tail(prefix)
	for _, f := range tail {
		if f.merged == nil || minTXID < f.min || maxTXID > f.max || minTXID == f.min && maxTXID == f.max {
			continue
		}
		files, err := l.raw(ctx, prefix, []*tailFile{f})
		return slices.DeleteFunc(files, func(f *tailFile) bool { return f.min != minTXID || f.max != maxTXID }), err
	}
	return tail, nil
}

// recorded is the file of a record.
func recorded(log *format.Log, r format.Record) *tailFile {
	return &tailFile{
		min: ltx.TXID(r.Min), max: ltx.TXID(r.Max), created: r.Time, size: r.Size, large: r.Large,
		offset: r.Offset, crc: r.CRC, place: object{log.Epoch, log.Seq}, durable: true,
	}
}

// name is that of the object that has a file's bytes.
func (f *tailFile) name() string {
	if f.large != 0 {
		return format.LargeName(f.place.epoch, f.large)
	}
	return format.ObjectName(f.place.epoch, f.place.seq)
}
