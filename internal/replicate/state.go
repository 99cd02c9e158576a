package replicate

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/varint"
	"github.com/multidb-go/multidb/internal/wal"
	"github.com/superfly/ltx"
)

// State is what a run needs from the run before. The zero value is that of a database of
// which nothing is known. It is large; Pack encodes it in about a hundred bytes while the
// database is at rest.
type State struct {
	// db.State is the position: the last state that the replica acknowledged. db.EndSeen
	// is kept with it. The client and the functions in db are set only while the database
	// is active.
	db     ship.DB
	active *active // nil: at rest
	// Where the client is Deferred, db.State is what it has taken, and captured are the
	// states of the files that are not durable yet, in order. durable is the state before
	// the first of them, as long as there is one.
	// taken is the client that has taken the last of them.
	captured       []ship.State
	durable        ship.State
	taken          Deferred
	files          fsid.Files // what stat said before the last run that found everything shipped
	clean          bool       // if the files still look like that, nothing was written since
	checkpointed   walPoint   // where the last complete checkpoint was made
	nextCheckpoint time.Time  // none is tried before this time
	// mayLeaveLog: a connection of a run may have been the last one to close, so that a
	// log with frames was left. nextCut is when it is cut at the earliest.
	mayLeaveLog bool
	nextCut     time.Time
	retained    time.Time // when files were last deleted at the replica
	verified    bool      // the position was compared with the replica in this process
	inventory   []byte    // of the replica, encoded; only at rest

	unrecorded bool      // the catalog's record is out of date
	recorded   time.Time // the modTime that the catalog has

	flushed fsid.Fingerprint // of the log when it was last flushed to disk
	modTime time.Time        // of the files whose content is shipped
	young   bool             // a later write may leave the same modTime
	// checkpointTime is the modification time of the files after a checkpoint of ours, in
	// Unix nanoseconds, so that a watcher that reports the checkpoint does not make it a
	// write of the application.
	checkpointTime int64

	// emptyAt is when, by Config.Boot, the replica was seen to have no backup of a database
	// that was about to be made; zero: it was not. It is not packed. unanswered: the file
	// was made here although the replica did not answer whether it has a backup.
	emptyAt    time.Duration
	unanswered bool
	// handedOver: the database was handed over, and was not compared with the replica by
	// an OrderCheck since.
	handedOver bool
	// cache: the local file is of an earlier time, and others may have served the database since.
	// It counts only as far as it is a state of the replica's history; see ship.Listing.Cache.
	cache bool
	// sealed, of a cache: it was as it is when all of it is at the replica when the database came to this
	// process, which alone has committed to it since.
	sealed bool

	// These are not packed. takeOver: the local file counts at the next comparison with
	// the replica. maintenance is why maintenance fails while the database is active,
	// maintainAt when it is tried again, and maintenancePause the pause before that.
	takeOver         bool
	maintenance      error
	maintainAt       time.Time
	maintenancePause time.Duration
}

// active is what only an active database has.
type active struct {
	inv            levels.Inventory
	due            bool      // compaction or a snapshot was due in an earlier run and is not done
	snapshotNeeded bool      // without a new snapshot, the replica cannot be restored
	deferred       Deferred  // nil: what the client has written is durable
	unpacked       time.Time // when the tail was last unpacked, or began
	phased         bool      // the first tail was unpacked sooner, see unpackPhase
	named          bool      // metadata.json names the fleet log
}

// prefix is the client of the prefix alone.
func (a *active) prefix(client litestream.ReplicaClient) litestream.ReplicaClient {
	if a.deferred != nil {
		return a.deferred.Prefix()
	}
	return client
}

// Deferred is an optional interface of a database's client: it takes files of level 0 in
// their order, and knows only later that they are durable. Safe for concurrent use.
type Deferred interface {
	// Durable returns the last transaction that is durable of those that were taken; zero:
	// none was taken yet.
	Durable() ltx.TXID
	// Await waits until a transaction that was taken is durable.
	Await(ctx context.Context, txid ltx.TXID) error
	// Lacks is the first transaction that was taken and is not in the prefix; zero: all are.
	Lacks() ltx.TXID
	// Tail is how many files, of how many bytes, the client has taken that are not in the
	// prefix, and Unpack writes those that are durable there, as few files, which it
	// returns, also at an error. Unless all is set, the last one stays if there are others.
	Tail() (files int, size int64)
	Unpack(ctx context.Context, all bool) ([]*ltx.FileInfo, error)
	// Pressed reports whether Unpack is due because what all clients have taken needs too
	// much memory, and this one's as much as the average or more.
	Pressed() bool
	// Prefix is the client of the prefix alone.
	Prefix() litestream.ReplicaClient
}

// Position returns the last state that the replica acknowledged. Like all methods it may be
// called only by the owner of the State.
func (st *State) Position() ship.State {
	if len(st.captured) > 0 {
		return st.durable
	}
	return st.db.State
}

// Captured is the last transaction that the client has taken; zero if it is durable.
func (st *State) Captured() ltx.TXID {
	if len(st.captured) == 0 {
		return 0
	}
	return st.db.State.TXID
}

// settle moves the position on to what is durable by now.
func (st *State) settle() {
	if len(st.captured) > 0 {
		st.Settle(st.taken.Durable())
	}
}

// Settle moves the position on to what is known to be durable, up to a transaction.
func (st *State) Settle(last ltx.TXID) {
	n := 0
	for n < len(st.captured) && st.captured[n].TXID <= last {
		st.durable = st.captured[n]
		n++
	}
	if n == len(st.captured) {
		st.captured, st.taken = nil, nil
	} else {
		st.captured = st.captured[n:]
	}
	st.unrecorded = st.unrecorded || n > 0
}

// capture notes that the client has taken a file, after which the state is what it is now.
func (st *State) capture(before ship.State) {
	if st.active.deferred == nil {
		return
	}
	if len(st.captured) == 0 {
		st.durable = before
	}
	st.captured, st.taken = append(st.captured, st.db.State), st.active.deferred
}

// unacknowledged is how many bytes of the log are captured and not durable.
func (st *State) unacknowledged() int64 {
	tip, from := &st.db.State, st.Position()
	if from.Salt1 == tip.Salt1 && from.Salt2 == tip.Salt2 {
		return max(tip.Offset-from.Offset, 0)
	}
	return tip.Offset
}

// AtRest reports whether Pack keeps everything, and the catalog has it too.
func (st *State) AtRest() bool { return st.active == nil && len(st.captured) == 0 && !st.unrecorded }

// Verified reports whether the position was compared with the replica in this process, and
// the database was not handed over since.
func (st *State) Verified() bool { return st.verified && !st.handedOver }

// Clean reports whether a run that finds the files unchanged has nothing to do.
func (st *State) Clean() bool { return st.clean }

// Unchanged reports whether nothing was written since everything was shipped, if f is what
// stat says now.
func (st *State) Unchanged(f fsid.Files) bool { return st.clean && f == st.files }

// NothingNew reports whether the last run has taken everything into account that files which look
// like this may have.
func (st *State) NothingNew(f fsid.Files, now time.Time) bool {
	return st.Unchanged(f) || f.ModTime().Equal(st.modTime) && !f.Racy(now)
}

// MayLack reports whether files that look like this may have commits that the replica lacks.
func (st *State) MayLack(f fsid.Files) bool { return st.young || !f.ModTime().Equal(st.modTime) }

// IsOwnCheckpoint reports whether a modification time is that of the files after a checkpoint of ours.
func (st *State) IsOwnCheckpoint(mod time.Time) bool { return mod.UnixNano() == st.checkpointTime }

// NoteAnswer notes when, by Config.Boot, the replica answered that it has no backup of a
// database that is about to be made. Zero: it did not answer.
func (st *State) NoteAnswer(at time.Duration) { st.emptyAt, st.unanswered = at, at == 0 }

// Unrecorded reports whether Record would return something that the catalog does not have.
func (st *State) Unrecorded() bool {
	return st.unrecorded || !st.young && len(st.captured) == 0 && !st.modTime.Equal(st.recorded)
}

// Record is what the catalog keeps of a State.
type Record struct {
	Position  ship.State
	Inventory []byte
	// ModTime is the modification time of the files whose content is shipped. It is zero
	// if a later write may leave the same time, or none is known: then the next process
	// looks again.
	ModTime time.Time
}

// Record returns what the catalog is to keep. From then on Unrecorded takes it as kept.
func (st *State) Record() Record {
	rec := Record{Position: st.Position(), Inventory: st.inventory}
	st.recorded, st.unrecorded = time.Time{}, false
	// What is not durable yet is shipped again by the next process, which has to see that the
	// files are not those of the position.
	if !st.young && !st.modTime.IsZero() && len(st.captured) == 0 {
		rec.ModTime, st.recorded = st.modTime, st.modTime
	}
	return rec
}

// FromRecord returns the State of a record that another process made.
func FromRecord(rec Record) State {
	return State{db: ship.DB{State: rec.Position}, inventory: rec.Inventory, modTime: rec.ModTime, recorded: rec.ModTime}
}

// MarkLost marks a State whose packed form could not be read: it is as if the state directory
// had been lost, and the catalog has to be written again.
func (st *State) MarkLost() { st.unrecorded = true }

// MarkCache marks the State of a file of an earlier time, of a database that others may have
// served since: nothing that only the file has is shipped. The mark goes when the file was found
// to be the newest state, or was replaced by that. sealed: what the file has more than the state
// that is known of it was committed by this process, or beside it, and is shipped if the replica
// is in that state still.
func (st *State) MarkCache(sealed bool) { st.cache, st.sealed = true, sealed }

// Remains is what is kept of a database whose file does not exist any more, so that it can
// be restored without a listing.
type Remains struct {
	Position  ship.State
	Inventory []byte
	// EndSeen is when, by Config.Boot, the replica was last known to end at Position.
	EndSeen time.Duration
}

// Remains returns what is to be kept when the file has disappeared. It returns false if
// that is nothing.
func (st *State) Remains() (Remains, bool) {
	if st.db.State.TXID == 0 {
		return Remains{}, false
	}
	r := Remains{st.Position(), st.inventory, st.db.EndSeen}
	if st.active != nil {
		var err error
		if r.Inventory, err = st.active.inv.AppendBinary(nil); err != nil {
			return Remains{}, false
		}
	}
	return r, true
}

// Restored returns the State of a file that was just made from the replica: it is exactly
// the state at the replica's end.
func Restored(r Remains) State {
	return State{db: ship.DB{State: r.Position, EndSeen: r.EndSeen}, inventory: r.Inventory, verified: true, unrecorded: true}
}

// Forget drops the bytes that are kept for compaction. Call it for a database that is
// removed.
func (st *State) Forget() {
	if st.active != nil {
		st.active.inv.DropCached()
	}
}

// walPoint is a position in the WAL.
type walPoint struct {
	salt   uint32
	offset int64
}

// The first byte of a packed State says which of these it has.
const (
	packedClean = 1 << iota
	packedVerified
	packedPosition // a position in a WAL
	packedPrint
	packedStat    // a fingerprint of the database file that is not the Print
	packedWAL     // a fingerprint of the WAL
	packedModTime // a modTime that is not that of the fingerprints
	packedOthers  // retained and checkpointTime
)

// So does its second byte.
const (
	packedYoung     = 1 << iota
	packedRecorded  // recorded is the modTime
	packedPublished // the position is Published
	packedOrigin
	packedEndSeen
	packedUnanswered
	packedHandedOver
	packedCache
)

// Pack encodes the State of a database at rest in about a hundred bytes, most of which are
// times. It leaves out when the WAL was checkpointed and flushed, which is of no use for a
// cold database.
func (st *State) Pack() string {
	b := make([]byte, 2, 160)
	set := func(i int, flag byte, on bool) bool {
		if on {
			b[i] |= flag
		}
		return on
	}
	pos := &st.db.State
	set(0, packedClean, st.clean)
	set(0, packedVerified, st.verified || st.cache && st.sealed) // a cache is not verified
	set(1, packedYoung, st.young)
	set(1, packedUnanswered, st.unanswered)
	set(1, packedHandedOver, st.handedOver)
	set(1, packedCache, st.cache)
	set(1, packedRecorded, !st.recorded.IsZero() && st.recorded.Equal(st.modTime))
	b = binary.AppendUvarint(b, uint64(pos.TXID))
	b = binary.AppendUvarint(b, uint64(pos.PageSize))
	b = binary.AppendUvarint(b, uint64(pos.Commit))
	b = binary.AppendUvarint(b, pos.Ino)
	if set(0, packedPosition, pos.Offset != 0 || pos.Salt1 != 0 || pos.Salt2 != 0 || pos.SlotLen != 0 || pos.Sum != wal.Sum{}) {
		for _, n := range []uint32{pos.Salt1, pos.Salt2, pos.Sum.S1, pos.Sum.S2} {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		b = binary.AppendVarint(b, pos.Offset)
		b = append(b, pos.SlotLen)
		b = append(b, pos.Slot[:]...)
		if !set(1, packedPublished, pos.Published) { // otherwise TxnStart is not needed
			b = binary.AppendVarint(b, pos.TxnStart.Offset)
			b = binary.LittleEndian.AppendUint32(b, pos.TxnStart.Sum.S1)
			b = binary.LittleEndian.AppendUint32(b, pos.TxnStart.Sum.S2)
		}
	}
	stamp := func(p fsid.Fingerprint) {
		b = binary.AppendUvarint(b, p.Ino)
		b = binary.AppendVarint(b, p.Size)
		b = binary.AppendVarint(b, p.Mtime)
		b = binary.AppendVarint(b, p.Ctime-p.Mtime)
	}
	if set(0, packedPrint, !pos.Fingerprint.IsZero()) {
		stamp(pos.Fingerprint)
	}
	if set(0, packedStat, st.files.Main != pos.Fingerprint) {
		stamp(st.files.Main)
	}
	if set(0, packedWAL, !st.files.WAL.IsZero()) {
		stamp(st.files.WAL)
	}
	if set(0, packedModTime, !st.modTime.Equal(st.files.ModTime())) {
		b = appendTime(b, st.modTime)
	}
	if set(1, packedOrigin, pos.Origin != ship.Origin{}) {
		b = binary.LittleEndian.AppendUint64(b, pos.Origin.Writer)
		b = binary.LittleEndian.AppendUint64(b, uint64(pos.Origin.Sum))
	}
	if set(1, packedEndSeen, st.db.EndSeen != 0) {
		b = binary.AppendVarint(b, int64(st.db.EndSeen))
	}
	if set(0, packedOthers, !st.retained.IsZero() || st.checkpointTime != 0) {
		b = appendTime(b, st.retained)
		b = binary.AppendVarint(b, st.checkpointTime)
	}
	return string(append(b, st.inventory...))
}

// Unpack decodes what Pack has encoded. An empty string is a zero State.
func (st *State) Unpack(s string) error {
	*st = State{}
	if s == "" {
		return nil
	} else if len(s) < 2 {
		return errPacked
	}
	d := unpacker{varint.Reader{B: []byte(s[2:])}}
	flags, more := s[0], s[1]
	pos := &st.db.State
	st.clean, st.verified = flags&packedClean != 0, flags&packedVerified != 0
	st.unanswered, st.handedOver, st.cache = more&packedUnanswered != 0, more&packedHandedOver != 0, more&packedCache != 0
	if st.sealed = st.cache && st.verified; st.sealed {
		st.verified = false
	}
	pos.TXID, pos.PageSize = ltx.TXID(d.Uvarint()), uint32(d.Uvarint())
	pos.Commit, pos.Ino = uint32(d.Uvarint()), d.Uvarint()
	if flags&packedPosition != 0 {
		for _, n := range []*uint32{&pos.Salt1, &pos.Salt2, &pos.Sum.S1, &pos.Sum.S2} {
			*n = binary.LittleEndian.Uint32(d.Take(4))
		}
		pos.Offset, pos.SlotLen = d.Varint(), d.Take(1)[0]
		copy(pos.Slot[:], d.Take(len(pos.Slot)))
		if pos.Published = more&packedPublished != 0; !pos.Published {
			pos.TxnStart.Offset = d.Varint()
			pos.TxnStart.Sum.S1 = binary.LittleEndian.Uint32(d.Take(4))
			pos.TxnStart.Sum.S2 = binary.LittleEndian.Uint32(d.Take(4))
		}
	}
	if flags&packedPrint != 0 {
		pos.Fingerprint = d.stamp()
	}
	st.files.Main = pos.Fingerprint
	if flags&packedStat != 0 {
		st.files.Main = d.stamp()
	}
	if flags&packedWAL != 0 {
		st.files.WAL = d.stamp()
	}
	st.modTime = st.files.ModTime()
	if flags&packedModTime != 0 {
		st.modTime = d.time()
	}
	if st.young = more&packedYoung != 0; more&packedRecorded != 0 {
		st.recorded = st.modTime
	}
	if more&packedOrigin != 0 {
		pos.Origin.Writer = binary.LittleEndian.Uint64(d.Take(8))
		pos.Origin.Sum = ltx.Checksum(binary.LittleEndian.Uint64(d.Take(8)))
	}
	if more&packedEndSeen != 0 {
		st.db.EndSeen = time.Duration(d.Varint())
	}
	if flags&packedOthers != 0 {
		st.retained, st.checkpointTime = d.time(), d.Varint()
	}
	if d.Bad {
		*st = State{}
		return errPacked
	}
	if len(d.B) > 0 {
		st.inventory = d.B
	}
	return nil
}

// errPacked shows a defect of this program. It costs a comparison with the replica.
var errPacked = errors.New("multidb: what was kept of a cold database cannot be read")

// appendTime appends Unix nanoseconds, or the least integer for a zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, noTime)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

const noTime = -1 << 63

type unpacker struct{ varint.Reader }

func (d *unpacker) time() time.Time {
	n := d.Varint()
	if n == noTime {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (d *unpacker) stamp() fsid.Fingerprint {
	p := fsid.Fingerprint{Ino: d.Uvarint(), Size: d.Varint(), Mtime: d.Varint()}
	p.Ctime = p.Mtime + d.Varint()
	return p
}
