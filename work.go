package multidb

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// work is what a run needs from the one before.
type work struct {
	state    ship.State
	stat     fsid.Files // before the last run that found everything shipped
	clean    bool       // nothing can have been written since, if the stat is the same
	sealed   sealPoint
	nextSeal time.Time        // not before this
	lingers  bool             // a connection of a run may have been the last to close
	nextCut  time.Time        // of the log that it leaves, not before this
	retained time.Time        // when the replica was last cleared of what is old
	verified bool             // the replica was looked at in this process
	files    []byte           // the inventory, while there is no replica below
	rep      *replica         // while active
	dirty    bool             // the catalog's record is old
	placed   time.Duration    // when the replica was last known to end at the state, by cfg.boot; zero: never
	flushed  fsid.Fingerprint // the WAL when it was last flushed to disk
	modTime  time.Time        // of what is shipped
	young    bool             // a later write may have the same modTime
	told     time.Time        // the modTime that the catalog has
	vacant   time.Duration    // when the replica was seen to have nothing, by cfg.boot; zero: it was not; not packed
	unasked  bool             // the file was made here while the replica did not say whether it has a backup
	own      int64            // Unix nanoseconds: the files' time after a checkpoint of ours

	// Not packed: that the local file wins at the next look at the replica; what
	// upkeep fails of while active, when it is tried again, and after what pause.
	takeOver  bool
	untended  error
	tendAt    time.Time
	tendPause time.Duration
}

// sealPoint is where the WAL was when it was last checkpointed.
type sealPoint struct {
	salt   uint32
	offset int64
}

// What a packed work has: its first byte.
const (
	packedClean = 1 << iota
	packedVerified
	packedPosition // a place in a WAL
	packedPrint
	packedStat   // of the database file, where it is not the print
	packedWAL    // a stat of the WAL
	packedLater  // a modTime of its own, not that of the stat
	packedOthers // retained, own
)

// And its second.
const (
	packedYoung = 1 << iota
	packedTold  // the catalog has the modTime
	packedKnown // of a position: SQLite has it
	packedOrigin
	packedPlaced
	packedUnasked
)

// pack encodes a work without a replica for an entry that is cold: about a
// hundred bytes, most of them times. Left out is what saves a cold database
// nothing: when its WAL was checkpointed and flushed.
func (w *work) pack() string {
	b := make([]byte, 2, 160)
	set := func(i int, flag byte, on bool) bool {
		if on {
			b[i] |= flag
		}
		return on
	}
	st := &w.state
	set(0, packedClean, w.clean)
	set(0, packedVerified, w.verified)
	set(1, packedYoung, w.young)
	set(1, packedUnasked, w.unasked)
	set(1, packedTold, !w.told.IsZero() && w.told.Equal(w.modTime))
	b = binary.AppendUvarint(b, uint64(st.TXID))
	b = binary.AppendUvarint(b, uint64(st.PageSize))
	b = binary.AppendUvarint(b, uint64(st.Commit))
	b = binary.AppendUvarint(b, st.Ino)
	if set(0, packedPosition, st.Offset != 0 || st.Salt1 != 0 || st.Salt2 != 0 || st.SlotLen != 0 || st.Sum != wal.Sum{}) {
		for _, n := range []uint32{st.Salt1, st.Salt2, st.Sum.S1, st.Sum.S2} {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		b = binary.AppendVarint(b, st.Offset)
		b = append(b, st.SlotLen)
		b = append(b, st.Slot[:]...)
		if !set(1, packedKnown, st.Known) { // otherwise Back means nothing
			b = binary.AppendVarint(b, st.Back.Offset)
			b = binary.LittleEndian.AppendUint32(b, st.Back.Sum.S1)
			b = binary.LittleEndian.AppendUint32(b, st.Back.Sum.S2)
		}
	}
	stamp := func(p fsid.Fingerprint) {
		b = binary.AppendUvarint(b, p.Ino)
		b = binary.AppendVarint(b, p.Size)
		b = binary.AppendVarint(b, p.Mtime)
		b = binary.AppendVarint(b, p.Ctime-p.Mtime)
	}
	if set(0, packedPrint, !st.Print.IsZero()) {
		stamp(st.Print)
	}
	if set(0, packedStat, w.stat.Main != st.Print) {
		stamp(w.stat.Main)
	}
	if set(0, packedWAL, !w.stat.WAL.IsZero()) {
		stamp(w.stat.WAL)
	}
	if set(0, packedLater, !w.modTime.Equal(w.stat.ModTime())) {
		b = appendTime(b, w.modTime)
	}
	if set(1, packedOrigin, st.Origin != ship.Origin{}) {
		b = binary.LittleEndian.AppendUint64(b, st.Origin.Writer)
		b = binary.LittleEndian.AppendUint64(b, uint64(st.Origin.Sum))
	}
	if set(1, packedPlaced, w.placed != 0) {
		b = binary.AppendVarint(b, int64(w.placed))
	}
	if set(0, packedOthers, !w.retained.IsZero() || w.own != 0) {
		b = appendTime(b, w.retained)
		b = binary.AppendVarint(b, w.own)
	}
	return string(append(b, w.files...))
}

// unpack is the inverse; an empty string is a zero work.
func (w *work) unpack(s string) error {
	*w = work{}
	if s == "" {
		return nil
	} else if len(s) < 2 {
		return errPacked
	}
	d := unpacker{b: []byte(s[2:])}
	flags, more := s[0], s[1]
	st := &w.state
	w.clean, w.verified = flags&packedClean != 0, flags&packedVerified != 0
	w.unasked = more&packedUnasked != 0
	st.TXID, st.PageSize = ltx.TXID(d.uvarint()), uint32(d.uvarint())
	st.Commit, st.Ino = uint32(d.uvarint()), d.uvarint()
	if flags&packedPosition != 0 {
		for _, n := range []*uint32{&st.Salt1, &st.Salt2, &st.Sum.S1, &st.Sum.S2} {
			*n = binary.LittleEndian.Uint32(d.take(4))
		}
		st.Offset, st.SlotLen = d.varint(), d.take(1)[0]
		copy(st.Slot[:], d.take(len(st.Slot)))
		if st.Known = more&packedKnown != 0; !st.Known {
			st.Back.Offset = d.varint()
			st.Back.Sum.S1 = binary.LittleEndian.Uint32(d.take(4))
			st.Back.Sum.S2 = binary.LittleEndian.Uint32(d.take(4))
		}
	}
	if flags&packedPrint != 0 {
		st.Print = d.stamp()
	}
	w.stat.Main = st.Print
	if flags&packedStat != 0 {
		w.stat.Main = d.stamp()
	}
	if flags&packedWAL != 0 {
		w.stat.WAL = d.stamp()
	}
	w.modTime = w.stat.ModTime()
	if flags&packedLater != 0 {
		w.modTime = d.time()
	}
	if w.young = more&packedYoung != 0; more&packedTold != 0 {
		w.told = w.modTime
	}
	if more&packedOrigin != 0 {
		st.Origin.Writer = binary.LittleEndian.Uint64(d.take(8))
		st.Origin.Sum = ltx.Checksum(binary.LittleEndian.Uint64(d.take(8)))
	}
	if more&packedPlaced != 0 {
		w.placed = time.Duration(d.varint())
	}
	if flags&packedOthers != 0 {
		w.retained, w.own = d.time(), d.varint()
	}
	if d.bad {
		*w = work{}
		return errPacked
	}
	if len(d.b) > 0 {
		w.files = d.b
	}
	return nil
}

// errPacked is a defect of this program, and costs a look at the replica.
var errPacked = errors.New("multidb: what was kept of a cold database cannot be read")

// appendTime appends Unix nanoseconds, or the least integer for a zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, noTime)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

const noTime = -1 << 63

type unpacker struct {
	b   []byte
	bad bool
}

func (d *unpacker) take(n int) []byte {
	if len(d.b) < n {
		d.b, d.bad = nil, true
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *unpacker) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *unpacker) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *unpacker) time() time.Time {
	n := d.varint()
	if n == noTime {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (d *unpacker) stamp() fsid.Fingerprint {
	p := fsid.Fingerprint{Ino: d.uvarint(), Size: d.varint(), Mtime: d.varint()}
	p.Ctime = p.Mtime + d.varint()
	return p
}
