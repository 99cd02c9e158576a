package format

import (
	"errors"
	"reflect"
	"testing"

	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/multidb-go/multidb/internal/varint"
)

// forge makes a log object without asking whether it is one that Encode would make.
func forge(t testing.TB, l *Log) []byte {
	payload := []byte("first filesecond")
	b := append([]byte(nil), payload...)
	b = l.appendFooter(b)
	b, _, err := appendTrailer(b, kindLog, len(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzFooter: a footer of each kind under checksums that are right. What is read can be
// written, and is the same when it is read again.
func FuzzFooter(f *testing.F) {
	log, b := sampleLog(f)
	log.Forgets = []Forget{{Prefix: "a"}, {Prefix: "b", Below: []Mark{{1, 2}, {2, 1}}}}
	forgets, err := log.Encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{b, forgets, second(sampleSeal(f)), second(sampleMap(f)), second(many(f, 20, 3))} {
		fr, _, err := openFrame(b, int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(fr.kind), fr.footer, uint16(fr.payload), uint8(fr.version-1))
	}
	f.Add(uint32(1), []byte{}, uint16(0), uint8(0))
	f.Fuzz(func(t *testing.T, k uint32, footer []byte, payload uint16, v uint8) {
		b, _, err := appendTrailerOf(append(make([]byte, payload), footer...), kind(k), int(payload), 1+uint32(v%2))
		if err != nil {
			return
		}
		// Where the footer says what it is, the name is the right one.
		r := varint.Reader{B: footer}
		r.Take(16)
		epoch, seq := r.Uvarint(), r.Uvarint()
		e, need, err := Decode(b, int64(len(b)), epoch, seq)
		switch {
		case need != 0:
			t.Fatalf("needs %d of %d", need, len(b))
		case err != nil && !errors.Is(err, untrusted.ErrDamaged):
			t.Fatalf("error is %v", err)
		case err == nil && e.Log != nil:
			want := *e.Log
			files := make([]File, len(want.Records))
			for i, r := range want.Records {
				files[i].Record = r
				if r.Large == 0 {
					files[i].Data = b[r.Offset : r.Offset+r.Size]
				}
			}
			again, err := e.Log.Encode(files)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := Decode(again, int64(len(again)), epoch, seq)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want.Records { // the forged CRCs are any
				if want.Records[i].Large == 0 {
					want.Records[i].CRC = got.Log.Records[i].CRC
				}
			}
			want.Sum = got.Log.Sum
			if len(want.Records) == 0 {
				want.Records, got.Log.Records = nil, nil
			}
			if !reflect.DeepEqual(*got.Log, want) {
				t.Fatalf("%+v became %+v", want, *got.Log)
			}
		case err == nil:
			want := *e.Seal
			again, err := e.Seal.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := Decode(again, int64(len(again)), epoch, seq)
			if want.Sum = e.Seal.Sum; err != nil || *got.Seal != want {
				t.Fatalf("%+v became %+v, %v", want, got.Seal, err)
			}
		}
		m, need, err := DecodeMap(b, int64(len(b)), epoch) // at that place is the number of a map
		switch {
		case need != 0:
			t.Fatalf("needs %d of %d", need, len(b))
		case err != nil && !errors.Is(err, untrusted.ErrDamaged):
			t.Fatalf("error is %v", err)
		case err == nil:
			again, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := DecodeMap(again, int64(len(again)), epoch); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%+v became %+v, %v", m, got, err)
			}
		}
	})
}

// FuzzDecode: any bytes at all, of which perhaps only the last are given.
func FuzzDecode(f *testing.F) {
	for _, b := range [][]byte{second(sampleLog(f)), second(sampleSeal(f)), second(sampleMap(f)), {}} {
		f.Add(b, int64(len(b)), uint64(7), uint64(300))
		f.Add(b[len(b)/2:], int64(len(b)), uint64(7), uint64(300))
	}
	f.Fuzz(func(t *testing.T, end []byte, size int64, epoch, seq uint64) {
		e, need, err := Decode(end, size, epoch, seq)
		if err != nil && !errors.Is(err, untrusted.ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Fatalf("error is %v", err)
		}
		if need != 0 && (err != nil || need <= int64(len(end)) || need > size || need > MaxFooter+trailerSize) {
			t.Fatalf("needs %d of %d, has %d, %v", need, size, len(end), err)
		}
		if err == nil && need == 0 && (e.Log == nil) == (e.Seal == nil) {
			t.Fatalf("read %+v", e)
		}
		if _, _, err := DecodeMap(end, size, seq); err != nil && !errors.Is(err, untrusted.ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Fatalf("error is %v", err)
		}
		_ = CheckPayload(end)
	})
}

func second[A, B any](_ A, b B) B { return b }
