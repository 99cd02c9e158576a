package replicate

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/superfly/ltx"
)

func TestAColdDatabaseKeepsAllThatARunNeeds(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	some := func() int64 { return rng.Int64() >> rng.IntN(63) * int64(rng.IntN(3)-1) }
	stamp := func() (p fsid.Fingerprint) {
		if rng.IntN(3) > 0 {
			p = fsid.Fingerprint{Ino: rng.Uint64(), Size: some(), Mtime: some(), Ctime: some()}
		}
		return p
	}
	moment := func() time.Time {
		if rng.IntN(3) == 0 {
			return time.Time{}
		}
		return time.Unix(0, some())
	}
	for range 10_000 {
		var w State
		w.db.State = ship.State{TXID: ltx.TXID(rng.Uint64N(1 << 20)), PageSize: 4096, Commit: rng.Uint32(), Ino: rng.Uint64(), Fingerprint: stamp()}
		if rng.IntN(2) == 0 {
			w.db.State.Salt1, w.db.State.Salt2, w.db.State.Offset = rng.Uint32(), rng.Uint32(), some()
			w.db.State.Sum.S1, w.db.State.Sum.S2 = rng.Uint32(), rng.Uint32()
			if w.db.State.Published = rng.IntN(2) == 0; !w.db.State.Published {
				w.db.State.TxnStart.Offset, w.db.State.TxnStart.Sum.S1, w.db.State.TxnStart.Sum.S2 = some(), rng.Uint32(), rng.Uint32()
			}
			w.db.State.SlotLen = uint8(rng.IntN(25))
			for i := range w.db.State.Slot {
				w.db.State.Slot[i] = byte(rng.Uint32())
			}
		}
		w.files = fsid.Files{Main: w.db.State.Fingerprint, WAL: stamp()}
		if rng.IntN(2) == 0 {
			w.files.Main = stamp()
		}
		w.clean, w.verified = rng.IntN(2) == 0, rng.IntN(2) == 0
		w.unanswered, w.handedOver = rng.IntN(2) == 0, rng.IntN(2) == 0
		if w.modTime = w.files.ModTime(); rng.IntN(2) == 0 {
			w.modTime = moment()
		}
		if w.young = rng.IntN(2) == 0; rng.IntN(2) == 0 {
			w.recorded = w.modTime
		}
		if w.retained = moment(); rng.IntN(2) == 0 {
			w.checkpointTime = some()
		}
		if rng.IntN(2) == 0 {
			w.inventory = []byte("inventory")
		}
		var got State
		packed := w.Pack()
		if err := got.Unpack(packed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !got.modTime.Equal(w.modTime) || !got.retained.Equal(w.retained) || !got.recorded.Equal(w.recorded) {
			t.Fatalf("seed %d: times %v %v, want %v %v", seed, got.modTime, got.retained, w.modTime, w.retained)
		}
		got.modTime, got.retained, got.recorded = w.modTime, w.retained, w.recorded
		if !reflect.DeepEqual(got, w) {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, w)
		}
		if err := got.Unpack(packed[:rng.IntN(8)+1]); err == nil || !reflect.DeepEqual(got, State{}) {
			t.Fatalf("seed %d: half of it is taken for something: %v %+v", seed, err, got)
		}
	}
}

// later is a Deferred that only says what is durable.
type later struct {
	Deferred
	upTo ltx.TXID
}

func (l *later) Durable() ltx.TXID { return l.upTo }

// TestWhatIsCapturedIsKnownWhenTheDatabaseIsNotActiveAnyMore: a run that has to compare it
// with the replica again drops the client.
func TestWhatIsCapturedIsKnownWhenTheDatabaseIsNotActiveAnyMore(t *testing.T) {
	client := &later{}
	st := State{active: &active{deferred: client}}
	for txid := range ltx.TXID(3) {
		old := st.db.State
		st.db.State.TXID, st.db.State.Offset = txid+1, int64(100*(txid+1))
		st.capture(old)
	}
	st.active = nil
	if st.AtRest() || st.Captured() != 3 || st.Position().TXID != 0 || st.unacknowledged() != 300 {
		t.Errorf("at rest: %v, captured %s, at %s, %d bytes on their way", st.AtRest(), st.Captured(), st.Position().TXID, st.unacknowledged())
	}
	client.upTo = 2
	st.settle()
	if st.Captured() != 3 || st.Position().TXID != 2 || st.unacknowledged() != 100 {
		t.Errorf("captured %s, at %s, %d bytes on their way", st.Captured(), st.Position().TXID, st.unacknowledged())
	}
	st.Settle(3)
	st.settle()
	if st.Captured() != 0 || st.Position().TXID != 3 || st.unacknowledged() != 0 || st.taken != nil {
		t.Errorf("captured %s, at %s", st.Captured(), st.Position().TXID)
	}
}
