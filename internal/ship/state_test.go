package ship

import (
	"errors"
	"math/rand"
	"reflect"
	"testing"
	"testing/quick"
	"unsafe"

	"github.com/multidb-go/multidb/internal/wal"
)

func TestAStateSurvivesItsEncoding(t *testing.T) {
	roundTrip := func(s State) bool {
		s.SlotLen %= wal.FrameHeaderSize + 1
		b, err := s.AppendBinary([]byte("before"))
		if err != nil || string(b[:6]) != "before" {
			return false
		}
		var got State
		return got.UnmarshalBinary(b[6:]) == nil && got == s
	}
	if err := quick.Check(roundTrip, nil); err != nil {
		t.Error(err)
	}
	if !roundTrip(State{}) {
		t.Error("the zero value")
	}
}

func TestADamagedStateIsRefusedAndChangesNothing(t *testing.T) {
	v, _ := quick.Value(reflect.TypeFor[State](), rand.New(rand.NewSource(1)))
	s := v.Interface().(State)
	s.SlotLen = 24
	good, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(b []byte) {
		t.Helper()
		got := State{TXID: 7}
		if err := got.UnmarshalBinary(b); !errors.Is(err, ErrBadState) || got != (State{TXID: 7}) {
			t.Errorf("error %v, state %+v", err, got)
		}
	}
	for bit := range len(good) * 8 {
		b := append([]byte(nil), good...)
		b[bit/8] ^= 1 << (bit % 8)
		refused(b)
	}
	for n := range good {
		refused(good[:n])
	}
	refused(append(good, 0))
	s.SlotLen = 25
	long, _ := s.AppendBinary(nil)
	refused(long)
}

// FuzzState takes the bytes as they are, and with their checksum.
func FuzzState(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, b := range [][]byte{body, signed(body)} {
			var s State
			if err := s.UnmarshalBinary(b); err != nil {
				if !errors.Is(err, ErrBadState) || s != (State{}) {
					t.Fatalf("error %v, state %+v", err, s)
				}
				continue
			}
			again, err := s.AppendBinary(nil)
			if err != nil || string(again) != string(b) {
				t.Fatalf("%x is encoded again as %x (%v)", b, again, err)
			}
		}
	})
}

// A hundred thousand of them are held in memory.
func TestAStateIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(State{}); n > 200 {
		t.Errorf("a State has %d bytes", n)
	}
}
