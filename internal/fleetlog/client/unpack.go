package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/failpoint"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// pieceBytes bounds what is merged into one file, and with it the memory.
const pieceBytes = 8 << 20

// Unpack writes what is durable of a tenant's tail to its prefix, and forgets it. It merges
// files into one of level 0 as far as memory and the page size allow; a large file stays as it
// is. What it returns are the files of level 0 that the prefix has of the tail, also at an
// error. Only what is durable is unpacked (F5): else a process that is fenced meanwhile would
// write another history.
//
// The last file is never merged with others: stock litestream goes on only from a file of one
// transaction (DB.verify of v0.5.18 opens it by the name of its last one alone). If all is set,
// it is written by itself, else it stays in the tail, unless it is all of it. So whatever
// happens, the prefix or the tail has it.
//
// Others may do the same at the same time, as the command does, or who was fenced and does
// not know it yet: it is the same history. Whoever writes to the prefix without the log
// takes the name of the transaction behind its end, which the first file that this process
// writes takes too: so one of the two is refused, and the error wraps ship.ErrFenced.
func (l *Log) Unpack(ctx context.Context, prefix string, inner litestream.ReplicaClient, all bool) (infos []*ltx.FileInfo, err error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	release, err := l.share(ctx, prefix)
	if err != nil {
		return nil, err
	}
	defer release()
	tail := l.tail(prefix)
	if n := slices.IndexFunc(tail, func(f *tailFile) bool { return !f.durable }); n >= 0 {
		tail = tail[:n]
	}
	if len(tail) == 0 {
		return nil, nil
	}
	last := tail[len(tail)-1].max
	l.mu.Lock()
	end := l.known[prefix]
	delete(l.known, prefix) // until it is known again
	l.mu.Unlock()
	ours := end != 0 && end == tail[0].min-1 && follow(tail) == len(tail)
	if !ours {
		if tail, end, infos, err = l.behindPrefix(ctx, prefix, inner, tail); err != nil {
			return nil, err
		}
	} else if dropped(tail) {
		if tail, err = l.raw(ctx, prefix, tail); err != nil {
			return nil, err
		}
	}
	if n := len(tail) - 1; n > 0 && !all {
		tail, last = tail[:n], tail[n-1].max
	}
	wrote := len(tail) > 0
	for alone := !ours; len(tail) > 0; {
		if tail[0].min > end+1 {
			info, err := l.bridge(ctx, inner, infos, end, tail[0].min)
			if err != nil {
				return infos, err
			}
			end, infos = info.MaxTXID, append(infos, info)
			tail = slices.DeleteFunc(tail, func(f *tailFile) bool { return f.max <= end })
			continue
		}
		next := tail[:follow(tail)]
		if all && len(next) == len(tail) && len(tail) > 1 {
			next = tail[:len(tail)-1]
		}
		info, n, err := l.writePiece(ctx, prefix, inner, next, alone)
		if err != nil {
			return infos, err
		}
		end, infos, tail, alone = info.MaxTXID, append(infos, info), tail[n:], false
	}
	failpoint.Hit("fleetlog.unpack.after")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(prefix, func(f *tailFile) bool {
		if f.max > last { // it came meanwhile
			return false
		}
		if l.cfg.Journal != nil {
			for o := range f.places() {
				l.cfg.Journal.Unpacked(o.epoch, o.seq)
			}
		}
		return true
	})
	l.known[prefix] = last
	if wrote {
		l.unpacks++
	}
	return infos, nil
}

// follow is how many of the first files of a tail follow each other.
func follow(tail []*tailFile) int {
	for i := 1; i < len(tail); i++ {
		if tail[i].min > tail[i-1].max+1 {
			return i
		}
	}
	return len(tail)
}

// bridge has the prefix lead from where it ends towards a file of the tail that does not follow. In between is
// what an owner has unpacked, whose log has let go of it, while the log before it stays for others: it is in
// the prefix, but in a file that begins before end, which endOf passes over because another unpacker, who was cut short,
// has written a shorter one. The rest of that file is written as one of its own; where one begins
// behind end it need not be.
func (l *Log) bridge(ctx context.Context, inner litestream.ReplicaClient, found []*ltx.FileInfo, end, next ltx.TXID) (*ltx.FileInfo, error) {
	var over *ltx.FileInfo
	for _, f := range found {
		if f.MinTXID <= end+1 && f.MaxTXID > end && (over == nil || f.MaxTXID > over.MaxTXID) {
			over = f
		}
	}
	if over == nil {
		return nil, fmt.Errorf("%w: the fleet log has transaction %s after %s", untrusted.ErrDamaged, next, end)
	} else if over.MinTXID == end+1 {
		return over, nil
	}
	rc, err := inner.OpenLTXFile(ctx, 0, over.MinTXID, over.MaxTXID, 0, 0)
	if err != nil {
		return nil, err
	}
	var rest bytes.Buffer
	err = ltxfile.Since(&rest, untrusted.NewLTX(rc), end+1)
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", ltx.FormatFilename(over.MinTXID, over.MaxTXID), err)
	}
	info, err := inner.WriteLTXFile(ctx, 0, end+1, over.MaxTXID, buffer{bytes.NewReader(rest.Bytes())})
	if errors.Is(err, fs.ErrExist) { // by another unpacker, or by this one, whose answer was lost
		info, err = &ltx.FileInfo{MinTXID: end + 1, MaxTXID: over.MaxTXID, Size: int64(rest.Len()), CreatedAt: over.CreatedAt}, nil
	}
	return info, err
}

// behindPrefix returns what a prefix lacks of a tail, where it ends, and what it has of the tail. Where it ends
// inside of a merged file, or begins with one, the tail is read again as it was.
func (l *Log) behindPrefix(ctx context.Context, prefix string, inner litestream.ReplicaClient, tail []*tailFile) (lacks []*tailFile, end ltx.TXID, found []*ltx.FileInfo, err error) {
	files, err := store.Files(ctx, inner, false)
	if err != nil {
		return nil, 0, nil, err
	}
	rest := func() []*tailFile {
		return slices.DeleteFunc(slices.Clone(tail), func(f *tailFile) bool { return f.max <= end })
	}
	end, found, err = l.endOf(ctx, prefix, inner, files, tail)
	n := slices.IndexFunc(rest(), func(f *tailFile) bool { return f.merged != nil })
	if errors.Is(err, errInside) || err == nil && (n == 0 || n > 0 && dropped(rest())) {
		if tail, err = l.raw(ctx, prefix, tail); err == nil {
			files, err = store.Files(ctx, inner, false) // after the logs (M2): one may have let go of what is in the prefix since
		}
		if err == nil {
			end, found, err = l.endOf(ctx, prefix, inner, files, tail)
		}
	}
	return rest(), end, found, err
}

// endOf looks for what a prefix has of a tail, and up to where: another life may have
// unpacked some of it, or another process may. A file of level 0 must end where one of the
// tail ends, and have its writer and time; any other is another history.
//
// Files that others have written at the same time may overlap. Those count that follow each
// other, and what was compacted: a compaction takes the files that begin behind the last
// one that it took, so that none may be relied on that begins before and ends after it.
func (l *Log) endOf(ctx context.Context, prefix string, inner litestream.ReplicaClient, files []*ltx.FileInfo, tail []*tailFile) (end ltx.TXID, found []*ltx.FileInfo, err error) {
	var compacted ltx.TXID
	for _, f := range files {
		if f.Level > 0 && f.Level < litestream.SnapshotLevel {
			compacted = max(compacted, f.MaxTXID)
		}
	}
	ends := map[ltx.TXID]*tailFile{}
	now := l.tail(prefix) // after the listing, which is not older
	for _, f := range now {
		ends[f.max] = f
	}
	for _, f := range tail {
		ends[f.max] = f
	}
	files = slices.DeleteFunc(slices.Clone(files), func(f *ltx.FileInfo) bool { return f.Level != 0 || f.MaxTXID < tail[0].min })
	slices.SortFunc(files, func(a, b *ltx.FileInfo) int {
		return cmp.Or(cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
	})
	end = max(tail[0].min-1, compacted)
	taken := compacted
	for _, f := range files {
		ours := ends[f.MaxTXID]
		switch {
		case f.MaxTXID <= compacted:
		case ours == nil && l.cfg.Journal == nil && f.MaxTXID > tail[len(tail)-1].max: // the owner has gone on
		case ours == nil && l.wentOn(tail, f.MaxTXID):
		case ours == nil && (inside(tail, f.MaxTXID) || inside(now, f.MaxTXID)), ours != nil && ours.merged != nil && ours.data == nil:
			return 0, nil, errInside
		case ours == nil:
			return 0, nil, l.foreign(f, nil)
		default:
			if err := l.same(ctx, inner, f, ours); err != nil {
				return 0, nil, err
			}
		}
		if found = append(found, f); f.MaxTXID > end && taken < f.MinTXID && f.MinTXID <= end+1 {
			end, taken = f.MaxTXID, f.MaxTXID
		}
	}
	return end, found, nil
}

// wentOn reports whether a transaction is one that a later owner of the log has added to what
// a former one has left: it has unpacked both together, and only the former log still tells
// of its part. A direct writer would have taken a name that the tail has.
func (l *Log) wentOn(tail []*tailFile, txid ltx.TXID) bool {
	var before *tailFile
	for _, f := range tail {
		if f.min <= txid && txid <= f.max {
			return false
		} else if f.max < txid {
			before = f
		}
	}
	return before != nil && (l.cfg.Journal == nil || before.place.epoch != l.cfg.Journal.Stats().Epoch)
}

// foreign is the error of a file in the prefix that is not of the log's history.
func (l *Log) foreign(f *ltx.FileInfo, hdr *ltx.Header) error {
	who := "ends where none of the fleet log does"
	if hdr != nil {
		who = fmt.Sprintf("was written by node %016x, not through the fleet log", hdr.NodeID)
	}
	return fmt.Errorf("%w: the prefix has another history than the fleet log: %s %s. Nothing was unpacked",
		ship.ErrFenced, ltx.FormatFilename(f.MinTXID, f.MaxTXID), who)
}

// same returns an error unless a file of the prefix ends with what a file of the tail is.
// As a header has no checksum of its own, all of the other file is read before it is found
// foreign: an answer that was damaged on its way fences nobody.
func (l *Log) same(ctx context.Context, inner litestream.ReplicaClient, f *ltx.FileInfo, ours *tailFile) error {
	err := l.sameHeader(ctx, inner, f, ours, ltx.HeaderSize)
	if errors.Is(err, ship.ErrFenced) {
		err = l.sameHeader(ctx, inner, f, ours, 0)
	}
	return err
}

// sameHeader is same for what the first size bytes of a file say; 0: all of it is verified.
func (l *Log) sameHeader(ctx context.Context, inner litestream.ReplicaClient, f *ltx.FileInfo, ours *tailFile, size int64) error {
	rc, err := inner.OpenLTXFile(ctx, 0, f.MinTXID, f.MaxTXID, 0, size)
	if err != nil {
		return err
	}
	var theirs ltx.Header
	if size != 0 {
		theirs, err = header(rc)
	} else {
		theirs, err = verified(rc)
	}
	if err != nil {
		return err
	}
	if rc, err = l.open(ctx, ours, 0, ltx.HeaderSize); err != nil {
		return err
	}
	hdr, err := header(rc)
	if err != nil {
		return err
	}
	if theirs.NodeID != hdr.NodeID || theirs.Timestamp != hdr.Timestamp || theirs.MaxTXID != hdr.MaxTXID ||
		theirs.Commit != hdr.Commit || theirs.PageSize != hdr.PageSize {
		return l.foreign(f, &theirs)
	}
	return nil
}

// verified reads an LTX file to its end, where its checksum is, and closes it.
func verified(rc io.ReadCloser) (ltx.Header, error) {
	defer func() { _ = rc.Close() }() // only read from
	dec := ltx.NewDecoder(untrusted.NewLTX(rc))
	if err := dec.Verify(); err != nil {
		return ltx.Header{}, fmt.Errorf("%w: %w", untrusted.ErrDamaged, err)
	}
	return dec.Header(), nil
}

// header reads the header of an LTX file, and closes it.
func header(rc io.ReadCloser) (hdr ltx.Header, err error) {
	defer func() { _ = rc.Close() }() // only read from
	hdr, _, err = ltx.PeekHeader(io.LimitReader(rc, ltx.HeaderSize))
	return hdr, err
}

// writePiece writes the first files of a tail to the prefix, n of them, as one.
func (l *Log) writePiece(ctx context.Context, prefix string, inner litestream.ReplicaClient, tail []*tailFile, alone bool) (info *ltx.FileInfo, n int, err error) {
	r, n, err := l.piece(ctx, tail, alone)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = r.Close() }()
	minTXID, last := tail[0].min, tail[n-1]
	failpoint.Hit("fleetlog.unpack.before")
	info, err = inner.WriteLTXFile(ctx, 0, minTXID, last.max, r)
	if err = failpoint.Err("fleetlog.unpack.lost", err); !errors.Is(err, fs.ErrExist) {
		return info, n, err
	}
	// By another unpacker, or by this one, whose answer was lost, or by another history.
	itr, err := inner.LTXFiles(ctx, 0, minTXID, false)
	if err != nil {
		return nil, 0, err
	}
	for itr.Next() {
		if f := itr.Item(); f.MinTXID == minTXID && f.MaxTXID == last.max {
			info = f
		}
	}
	if err := errors.Join(itr.Err(), itr.Close()); err != nil {
		return nil, 0, err
	}
	if info == nil {
		return nil, 0, fmt.Errorf("%s was there, and is gone: %w", ltx.FormatFilename(minTXID, last.max), fs.ErrNotExist)
	}
	return info, n, l.same(ctx, inner, info, last)
}

// buffer is a piece in memory, which a store may read twice.
type buffer struct{ *bytes.Reader }

func (buffer) Close() error { return nil }

// piece returns the first files of a tail as one: a large one as a stream, of others as many
// as memory and the page size allow. Those of another log are not among them: where a log ended is a state that
// its last Sync may have promised, and nothing else tells of it when that log is finished.
func (l *Log) piece(ctx context.Context, tail []*tailFile, alone bool) (r io.ReadCloser, n int, err error) {
	if tail[0].large != 0 {
		r, err := l.open(ctx, tail[0], 0, 0)
		return r, 1, err
	}
	var files []io.Reader
	var first []byte
	var pageSize uint32
	var sum int64
	for _, f := range tail {
		if f.large != 0 || n > 0 && (alone || sum+f.size > pieceBytes || f.place.epoch != tail[0].place.epoch) {
			break
		}
		data, err := l.fetch(ctx, f)
		if err != nil {
			return nil, 0, err
		}
		hdr, _, err := ltx.PeekHeader(bytes.NewReader(data))
		if err != nil {
			return nil, 0, err
		}
		if n == 0 {
			first, pageSize = data, hdr.PageSize
		} else if hdr.PageSize != pageSize {
			break
		}
		files = append(files, f.reader(data))
		n, sum = n+1, sum+f.size
	}
	if n == 1 && tail[0].merged == nil {
		return buffer{bytes.NewReader(first)}, 1, nil
	}
	var merged bytes.Buffer
	if _, _, err := ltxfile.Merge(&merged, files); err != nil {
		return nil, 0, err
	}
	return buffer{bytes.NewReader(merged.Bytes())}, n, nil
}
