package format

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/untrusted"
)

var update = flag.Bool("update", false, "write testdata/*.hex anew; the format has changed then, and needs a new version")

func sampleLog(t testing.TB) (*Log, []byte) {
	l := &Log{Author: ID{1, 2, 3}, Epoch: 7, Seq: 300, Packed: 290, Trim: 12, Created: 1_700_000_000_123, Releases: []int{0, 5, 1023}}
	b, err := l.Encode([]File{
		{Record: Record{Prefix: "p/two", Min: 9, Max: 12, Time: 1_700_000_000_000}, Data: []byte("second")},
		{Record: Record{Prefix: "p/one", Min: 1, Max: 1, Time: 1_700_000_000_100}, Data: []byte("first file")},
		{Record: Record{Prefix: "p/three", Min: 1, Max: math.MaxUint64, Large: 4, Size: 5 << 20, CRC: 0xdeadbeef}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, b
}

func sampleSeal(t testing.TB) (*Seal, []byte) {
	s := &Seal{Author: ID{9}, Epoch: 7, Seq: 301, Trim: 12, Next: 8, Created: 1_700_000_001_000, Who: "node-b"}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

func sampleMap(t testing.TB) (*Map, []byte) {
	m := &Map{Author: ID{3}, Number: 5, Created: 1_700_000_002_000, Next: 9, Live: []Live{
		{Epoch: 2, Life: ID{2}, Sealed: 41, Node: "a"}, {Epoch: 8, Life: ID{8}, Node: "http://10.0.0.2:8080"},
	}}
	for i := range m.Owners {
		m.Owners[i] = []uint64{8, 2, 0}[i/400]
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return m, b
}

func TestAnObjectIsReadAsItWasWritten(t *testing.T) {
	l, b := sampleLog(t)
	e, need, err := Decode(b, int64(len(b)), 7, 300)
	if err != nil || need != 0 || !reflect.DeepEqual(e.Log, l) {
		t.Fatalf("read %+v, %d, %v; written was %+v", e.Log, need, err, l)
	}
	for prefix, want := range map[string]string{"p/one": "first file", "p/two": "second"} {
		r, ok := e.Log.Find(prefix)
		if !ok {
			t.Fatalf("%s is not found", prefix)
		}
		file := b[r.Offset : r.Offset+r.Size]
		if string(file) != want || r.Check(file) != nil {
			t.Errorf("%s is %q, %v", prefix, file, r.Check(file))
		}
		if err := r.Check([]byte(strings.ToUpper(want))); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("another file of %s: error is %v", prefix, err)
		}
	}
	if _, ok := e.Log.Find("p/t"); ok {
		t.Error("a prefix is found that is not there")
	}
	if err := CheckPayload(b); err != nil {
		t.Error(err)
	}

	s, b := sampleSeal(t)
	if e, _, err := Decode(b, int64(len(b)), 7, 301); err != nil || !reflect.DeepEqual(e.Seal, s) {
		t.Errorf("read %+v, %v; written was %+v", e.Seal, err, s)
	}
	m, b := sampleMap(t)
	if got, _, err := DecodeMap(b, int64(len(b)), 5); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v, %v; written was %+v", got, err, m)
	}
	if m.Finished(2) || !m.Finished(3) || m.Finished(9) || m.Finished(0) || !m.Owns(8) || m.Owns(3) {
		t.Error("the map is wrong about who is finished or owns a shard")
	}
}

func TestAHeartbeatIsAnObjectWithoutRecords(t *testing.T) {
	l := &Log{Epoch: 1, Seq: 1, Packed: 1, Trim: 1}
	b, err := l.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, _, err := Decode(b, int64(len(b)), 1, 1); err != nil || len(e.Log.Records) != 0 || len(b) > 128 {
		t.Fatalf("%d bytes, read %+v, %v", len(b), e.Log, err)
	}
}

func TestOnlyAnObjectThatForgetsIsOfVersion2(t *testing.T) {
	l, b := sampleLog(t)
	if b[len(b)-12] != 1 {
		t.Errorf("without: version %d", b[len(b)-12])
	}
	l.Forgets = []Forget{{Prefix: "b"}, {Prefix: "a/b", Below: []Mark{{1, 20}, {2, 1}, {900, math.MaxUint64}}}}
	b, err := l.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if b[len(b)-12] != 2 {
		t.Errorf("with: version %d", b[len(b)-12])
	}
	e, need, err := Decode(b, int64(len(b)), l.Epoch, l.Seq)
	if err != nil || need != 0 {
		t.Fatal(need, err)
	}
	if want := []Forget{{"a/b", []Mark{{1, 20}, {2, 1}, {900, math.MaxUint64}}}, {Prefix: "b"}}; !reflect.DeepEqual(e.Log.Forgets, want) {
		t.Errorf("%+v, want %+v", e.Log.Forgets, want)
	}
	for what, forgets := range map[string][]Forget{
		"the same twice":        {{Prefix: "a"}, {Prefix: "a"}},
		"a prefix that is none": {{Prefix: "../a"}},
		"its own log":           {{Prefix: "a", Below: []Mark{{l.Epoch, 1}}}},
		"no log":                {{Prefix: "a", Below: []Mark{{0, 1}}}},
		"logs out of order":     {{Prefix: "a", Below: []Mark{{2, 1}, {1, 1}}}},
		"the same log twice":    {{Prefix: "a", Below: []Mark{{2, 1}, {2, 2}}}},
	} {
		bad := *l
		bad.Forgets = forgets
		if _, err := bad.Encode(nil); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("%s: the encoder says %v", what, err)
		}
		b, _, err := appendTrailerOf(bad.appendFooter(nil), kindLog, 0, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Decode(b, int64(len(b)), l.Epoch, l.Seq); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("%s: the decoder says %v", what, err)
		}
	}
}

func TestTheFooterIsReadFromTheEndAloneInOneStepOrTwo(t *testing.T) {
	for _, n := range []int{1000, 3000} {
		l, b := many(t, n, 100)
		size := int64(len(b))
		reads := 1
		end := b[max(0, size-Suffix):]
		e, need, err := Decode(end, size, 1, 1)
		if err == nil && need > 0 {
			reads++
			e, need, err = Decode(b[size-need:], size, 1, 1)
		}
		if err != nil || need != 0 || !reflect.DeepEqual(e.Log, l) {
			t.Fatalf("%d records: need %d, %v", n, need, err)
		}
		if want := 1 + n/2000; reads != want {
			t.Errorf("%d records took %d reads, want %d", n, reads, want)
		}
	}
}

// TestTheSumTellsTwoObjectsApart: whatever is different in an object, its Sum is.
func TestTheSumTellsTwoObjectsApart(t *testing.T) {
	base := func() (*Log, []File) {
		return &Log{Author: ID{1}, Epoch: 1, Seq: 2, Packed: 1, Trim: 1}, []File{{Record: Record{Prefix: "a", Min: 1, Max: 1}, Data: []byte("x")}}
	}
	sums := map[Sum]string{}
	for name, change := range map[string]func(*Log, []File){
		"nothing": func(*Log, []File) {}, "author": func(l *Log, _ []File) { l.Author[15] = 1 }, "seq": func(l *Log, _ []File) { l.Seq++ },
		"payload": func(_ *Log, f []File) { f[0].Data = []byte("y") }, "release": func(l *Log, _ []File) { l.Releases = []int{1} },
		"TXID": func(_ *Log, f []File) { f[0].Max++ }, "trim": func(l *Log, _ []File) { l.Trim, l.Packed = 2, 2 },
	} {
		l, f := base()
		change(l, f)
		if _, err := l.Encode(f); err != nil {
			t.Fatal(err)
		}
		if other := sums[l.Sum]; other != "" {
			t.Errorf("%s and %s have one sum", name, other)
		}
		sums[l.Sum] = name
	}
}

func TestNamesAreInTheOrderOfTheirNumbersAndReadBack(t *testing.T) {
	var names []string
	for _, n := range []uint64{1, 9, 10, 255, 256, 1 << 40, math.MaxUint64} {
		names = append(names, ObjectName(3, n))
		if e, s, ok := ParseObjectName(ObjectName(n, 3)); !ok || e != n || s != 3 {
			t.Errorf("%s is read as %d, %d, %v", ObjectName(n, 3), e, s, ok)
		}
		if e, s, ok := ParseLargeName(LargeName(n, 3)); !ok || e != n || s != 3 {
			t.Errorf("%s is read as %d, %d, %v", LargeName(n, 3), e, s, ok)
		}
		if m, ok := ParseMapName(MapName(n)); !ok || m != n {
			t.Errorf("%s is read as %d, %v", MapName(n), m, ok)
		}
		if !strings.HasPrefix(ObjectName(n, 1), LogDir(n)) {
			t.Errorf("%s is not in %s", ObjectName(n, 1), LogDir(n))
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not in order: %q", names)
	}
	for _, bad := range []string{"", "/", "1/1", "0000000000000001/", ObjectName(0, 1), ObjectName(1, 0), ObjectName(1, 1) + "0", ObjectName(1, 1) + "/",
		"../" + ObjectName(1, 1), strings.ToUpper(ObjectName(10, 1)), " " + ObjectName(1, 1)[1:], "+" + ObjectName(1, 1)[1:], MapName(1), LargeName(1, 1)} {
		if e, s, ok := ParseObjectName(bad); ok {
			t.Errorf("%q is read as %d, %d", bad, e, s)
		}
	}
}

// TestTheShardOfAPrefixNeverChanges: another shard would be another owner.
func TestTheShardOfAPrefixNeverChanges(t *testing.T) {
	for prefix, want := range map[string]int{"": 910, "a": 810, "p/one": 609, "litestream/acme/users": 739} {
		if got := Shard(prefix); got != want {
			t.Errorf("shard of %q is %d, want %d", prefix, got, want)
		}
	}
	var n [Shards]int
	for i := range 100 * Shards {
		n[Shard(fmt.Sprint("tenant/", i))]++
	}
	for s, n := range n {
		if n < 50 || n > 160 {
			t.Errorf("shard %d has %d of %d", s, n, 100*Shards)
		}
	}
}

// TestTheBytesAreThoseOfTheFirstRelease: what is in testdata is read, and written again.
func TestTheBytesAreThoseOfTheFirstRelease(t *testing.T) {
	_, log := sampleLog(t)
	_, seal := sampleSeal(t)
	_, m := sampleMap(t)
	for name, b := range map[string][]byte{"log": log, "seal": seal, "map": m} {
		file := filepath.Join("testdata", name+".v1.hex")
		if *update {
			if err := os.WriteFile(file, []byte(lines(b)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if lines(b) != string(want) {
			t.Errorf("%s: the bytes have changed:\n%s", name, lines(b))
		}
	}
}

func lines(b []byte) string {
	var s strings.Builder
	for part := range slices.Chunk(b, 32) {
		s.WriteString(hex.EncodeToString(part) + "\n")
	}
	return s.String()
}

func TestANewerVersionIsSaidToBeNewer(t *testing.T) {
	_, b := sampleLog(t)
	b[len(b)-12] = 3
	if _, _, err := Decode(b, int64(len(b)), 7, 300); !errors.Is(err, ErrNewer) || errors.Is(err, untrusted.ErrDamaged) {
		t.Errorf("log object: error is %v", err)
	}
	_, b = sampleMap(t)
	b[len(b)-9] = 1
	if _, _, err := DecodeMap(b, int64(len(b)), 5); !errors.Is(err, ErrNewer) {
		t.Errorf("map: error is %v", err)
	}
}

// TestWhatNobodyWritesIsRefusedByBothSides: each of these is refused by the encoder, and
// by the decoder if another encoder made it.
func TestWhatNobodyWritesIsRefusedByBothSides(t *testing.T) {
	for name, change := range map[string]func(*Log){
		"epoch 0": func(l *Log) { l.Epoch = 0 }, "trim 0": func(l *Log) { l.Trim = 0 }, "packed below trim": func(l *Log) { l.Packed = l.Trim - 1 },
		"packed above seq": func(l *Log) { l.Packed = l.Seq + 1 }, "shard 1024": func(l *Log) { l.Releases = []int{1024} },
		"a shard twice": func(l *Log) { l.Releases = []int{4, 4} }, "min above max": func(l *Log) { l.Records[0].Min = 2 },
		"TXID 0": func(l *Log) { l.Records[0].Min = 0 }, "a prefix twice": func(l *Log) { l.Records[1].Prefix = "p/one" },
		"unsorted": func(l *Log) { l.Records[0].Prefix = "z" }, "up": func(l *Log) { l.Records[0].Prefix = "p/../../etc" },
		"absolute": func(l *Log) { l.Records[0].Prefix = "/etc" }, "no prefix": func(l *Log) { l.Records[0].Prefix = "" },
		"trailing slash": func(l *Log) { l.Records[0].Prefix = "p/" }, "NUL": func(l *Log) { l.Records[0].Prefix = "p\x00" },
		"not UTF-8": func(l *Log) { l.Records[0].Prefix = "p\xff" }, "long prefix": func(l *Log) { l.Records[2].Prefix = strings.Repeat("q", MaxPrefix+1) },
		"outside":       func(l *Log) { l.Records[2].Size++ },
		"short payload": func(l *Log) { l.Records[2].Size-- }, "empty file": func(l *Log) { l.Records[1].Size = 0 },
		"large too large": func(l *Log) { l.Records[1].Size = MaxLarge + 1 },
	} {
		l, _ := sampleLog(t)
		change(l)
		b := forge(t, l)
		if e, _, err := Decode(b, int64(len(b)), l.Epoch, l.Seq); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("%s: error is %v, read was %+v", name, err, e.Log)
		}
		if name != "outside" && name != "short payload" && !errors.Is(l.check(), untrusted.ErrDamaged) {
			t.Errorf("%s: the encoder's error is %v", name, l.check())
		}
	}
	for name, change := range map[string]func(*Map){
		"number 0": func(m *Map) { m.Number = 0 }, "no next epoch": func(m *Map) { m.Next = 0 }, "live, but not yet there": func(m *Map) { m.Next = 8 },
		"unsorted": func(m *Map) { m.Live[0].Epoch = 8 }, "epoch 0": func(m *Map) { m.Live[0].Epoch = 0 }, "owner unknown": func(m *Map) { m.Owners[500] = 3 },
		"long text": func(m *Map) { m.Live[0].Node = strings.Repeat("n", MaxText+1) },
	} {
		m, _ := sampleMap(t)
		if change(m); !errors.Is(m.check(), untrusted.ErrDamaged) {
			t.Errorf("map, %s: error is %v", name, m.check())
		}
	}
	for name, change := range map[string]func(*Seal){
		"epoch 0": func(s *Seal) { s.Epoch = 0 }, "followed by itself": func(s *Seal) { s.Next = 7 }, "trim above": func(s *Seal) { s.Trim = 302 },
		"trim 0": func(s *Seal) { s.Trim = 0 }, "long text": func(s *Seal) { s.Who = strings.Repeat("n", MaxText+1) },
	} {
		s, _ := sampleSeal(t)
		change(s)
		if _, err := s.Encode(); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("seal, %s: error is %v", name, err)
		}
	}
}

// TestBytesAfterTheFooterAreRefused: under checksums that are right.
func TestBytesAfterTheFooterAreRefused(t *testing.T) {
	_, log := sampleLog(t)
	_, seal := sampleSeal(t)
	_, m := sampleMap(t)
	for _, b := range [][]byte{log, seal, m} {
		f, _, err := openFrame(b, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for name, footer := range map[string][]byte{"more": append(bytes.Clone(f.footer), 0), "less": f.footer[:len(f.footer)-1]} {
			bad, _, err := appendTrailer(append(bytes.Clone(b[:f.payload]), footer...), f.kind, int(f.payload))
			if err != nil {
				t.Fatal(err)
			}
			if f.kind == kindMap {
				_, _, err = DecodeMap(bad, int64(len(bad)), 5)
			} else {
				_, _, err = Decode(bad, int64(len(bad)), 7, uint64(299+f.kind))
			}
			if !errors.Is(err, untrusted.ErrDamaged) {
				t.Errorf("kind %d, %s: error is %v", f.kind, name, err)
			}
		}
	}
}

// TestAnObjectUnderAnotherNameIsRefused: a copy at another place is not what it says.
func TestAnObjectUnderAnotherNameIsRefused(t *testing.T) {
	_, log := sampleLog(t)
	_, seal := sampleSeal(t)
	_, m := sampleMap(t)
	for name, try := range map[string]func() error{
		"epoch": func() error { _, _, err := Decode(log, int64(len(log)), 8, 300); return err },
		"seq":   func() error { _, _, err := Decode(log, int64(len(log)), 7, 301); return err },
		"seal":  func() error { _, _, err := Decode(seal, int64(len(seal)), 7, 300); return err },
		"map":   func() error { _, _, err := DecodeMap(m, int64(len(m)), 6); return err },
		"kind":  func() error { _, _, err := DecodeMap(seal, int64(len(seal)), 301); return err },
		"kinds": func() error { _, _, err := Decode(m, int64(len(m)), 7, 5); return err },
		"more":  func() error { _, _, err := Decode(log, int64(len(log))-1, 7, 300); return err },
		"less":  func() error { _, _, err := Decode(log[10:], int64(len(log))+1, 7, 300); return err },
		"huge":  func() error { _, _, err := Decode(log, MaxObject+1, 7, 300); return err },
		"none":  func() error { _, _, err := Decode(nil, 0, 7, 300); return err },
	} {
		if err := try(); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestEveryFlippedBitAndEveryCutIsFound, in the payload by CheckPayload.
func TestEveryFlippedBitAndEveryCutIsFound(t *testing.T) {
	l, b := sampleLog(t)
	payload := int(l.Records[2].Offset + l.Records[2].Size)
	for i := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			_, need, err := Decode(bad, int64(len(bad)), 7, 300)
			if i < payload {
				err = CheckPayload(bad)
			}
			if err == nil && need == 0 {
				t.Fatalf("bit %d of byte %d", bit, i)
			}
		}
		if _, need, err := Decode(b[:i], int64(i), 7, 300); err == nil && need == 0 {
			t.Fatalf("cut to %d bytes", i)
		}
		if err := CheckPayload(b[:i]); err == nil {
			t.Fatalf("whole, cut to %d bytes", i)
		}
	}
}

// TestAForgedFooterCostsNoMoreMemoryThanItsLength: random bytes under valid checksums.
func TestAForgedFooterCostsNoMoreMemoryThanItsLength(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	_, whole := many(t, 50, 10)
	f, _, err := openFrame(whole, int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4000 {
		footer := bytes.Clone(f.footer)
		for range 1 + rnd.IntN(4) {
			at := rnd.IntN(len(footer))
			footer[at] = byte(rnd.Uint32())
			if rnd.IntN(3) == 0 { // a huge number
				copy(footer[at:], "\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
			}
		}
		for _, k := range []kind{kindLog, kindSeal, kindMap} {
			b, _, err := appendTrailer(append(make([]byte, f.payload), footer...), k, int(f.payload))
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err = Decode(b, int64(len(b)), 1, 1)
			_, _, _ = DecodeMap(b, int64(len(b)), 1)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
				t.Fatalf("seed %d, try %d: %d bytes were allocated for %d (%v)", seed, i, n, len(b), err)
			}
		}
	}
}

// many makes an object of n records.
func many(t testing.TB, n, size int) (*Log, []byte) {
	l := &Log{Epoch: 1, Seq: 1, Packed: 1, Trim: 1, Created: 1_700_000_000_000}
	b, err := l.Encode(files(n, size))
	if err != nil {
		t.Fatal(err)
	}
	return l, b
}

func files(n, size int) []File {
	files := make([]File, n)
	for i := range files {
		files[i] = File{Record: Record{Prefix: fmt.Sprintf("litestream/project-%03d/%06d", i%100, i), Min: uint64(i + 1), Max: uint64(i + 2), Time: 1_700_000_000_000}, Data: bytes.Repeat([]byte{byte(i)}, size)}
	}
	return files
}
