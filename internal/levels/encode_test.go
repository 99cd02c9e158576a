package levels_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/levels"
)

func encode(t testing.TB, v *levels.Inventory) []byte {
	t.Helper()
	b, err := v.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sample() *levels.Inventory {
	v := new(levels.Inventory)
	at := time.UnixMilli(1_700_000_000_123).UTC()
	for i := range ltx.TXID(300) {
		v.Add(&ltx.FileInfo{MinTXID: i + 1, MaxTXID: i + 1, Size: 700 + int64(i), CreatedAt: at.Add(time.Duration(i) * time.Second)})
	}
	v.Add(&ltx.FileInfo{Level: 1, MinTXID: 1, MaxTXID: 60, Size: math.MaxInt64, CreatedAt: at.Add(-time.Hour)})
	v.Add(&ltx.FileInfo{Level: 1, MinTXID: 50, MaxTXID: 120, Size: 5})
	v.Add(&ltx.FileInfo{Level: 1, MinTXID: 121, MaxTXID: math.MaxUint64, Size: 5, CreatedAt: at})
	v.Add(&ltx.FileInfo{Level: 9, MinTXID: 1, MaxTXID: 100, Size: 1 << 40, CreatedAt: at})
	v.Add(&ltx.FileInfo{Level: 9, MinTXID: 1, MaxTXID: 200, Size: 1 << 40, CreatedAt: at})
	v.BeginEpoch(70)
	v.BeginEpoch(30)
	v.BeginEpoch(70)
	v.MarkStray(2, 1, 120)
	v.MarkStray(0, 7, 7)
	return v
}

func TestAnInventoryIsEncodedAndDecodedWhole(t *testing.T) {
	for name, v := range map[string]*levels.Inventory{"empty": new(levels.Inventory), "of all kinds": sample()} {
		t.Run(name, func(t *testing.T) {
			b := encode(t, v)
			got := new(levels.Inventory)
			got.BeginEpoch(5) // replaced
			if err := got.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			same := slices.EqualFunc(slices.Collect(v.All()), slices.Collect(got.All()), func(a, b *ltx.FileInfo) bool { return *a == *b })
			if !same || got.Strays() != v.Strays() || got.MaxTXID() != v.MaxTXID() || !bytes.Equal(encode(t, got), b) {
				t.Fatal("decoded differently")
			}
			if again, _ := v.AppendBinary([]byte("before")); !bytes.Equal(again, append([]byte("before"), b...)) {
				t.Fatal("not appended")
			}
		})
	}
}

func TestTheEncodingOfALevelZeroFileTakesAFewBytes(t *testing.T) {
	v := new(levels.Inventory)
	at := time.UnixMilli(1_700_000_000_000)
	for i := range ltx.TXID(1000) {
		v.Add(&ltx.FileInfo{MinTXID: i + 1, MaxTXID: i + 1, Size: 4000, CreatedAt: at.Add(time.Duration(i) * time.Second)})
	}
	if n := len(encode(t, v)); n > 7*1000 {
		t.Fatalf("%d bytes for 1,000 files", n)
	}
}

func TestAnEncodingThatWasChangedIsRefused(t *testing.T) {
	b := encode(t, sample())
	v := new(levels.Inventory)
	v.Add(&ltx.FileInfo{MinTXID: 1, MaxTXID: 1})
	refused := func(b []byte) {
		t.Helper()
		if err := v.UnmarshalBinary(b); !errors.Is(err, levels.ErrEncoding) {
			t.Fatalf("error %v", err)
		}
		if v.Len() != 1 || v.MaxTXID() != 1 {
			t.Fatal("a refused encoding changed the inventory")
		}
	}
	for i := range b {
		refused(b[:i])
		c := slices.Clone(b)
		c[i] ^= 0x10
		refused(c)
	}
	refused(sealed(append([]byte{3}, b[1:len(b)-4]...)))                                           // another version
	refused(sealed(append(slices.Clone(b[:len(b)-4]), 0)))                                         // more than there is
	refused(sealed(binary.AppendUvarint([]byte{2}, 1<<40)))                                        // a count that no bytes follow
	noFiles := make([]byte, 9)                                                                     // of the other levels
	refused(sealed(slices.Concat([]byte{2, 2, 4, 0, 0, 0, 1, 0, 0, 0}, noFiles, []byte{0, 0, 0}))) // files out of order
	refused(sealed(slices.Concat([]byte{2, 1, 2, 0, 0, 0}, noFiles, []byte{0, 1, 0, 1, 0, 0})))    // a stray that is a file
}

func TestAnEpochIsForgottenWithTheLastFileBeforeIt(t *testing.T) {
	d := newTenant(t, 1)
	d.commits(5)
	d.changePageSize()
	d.commits(5)
	d.snapshot()
	withCut := encode(t, d.v)
	d.v.Reset(d.b.infos())
	if !bytes.Equal(withCut, encode(t, d.v)) {
		t.Fatal("a listing changed what is known of epochs")
	}
	d.now = d.now.Add(1000 * time.Hour)
	d.retain(levels.Policy{})
	without := new(levels.Inventory)
	without.Reset(d.b.infos())
	if !bytes.Equal(encode(t, d.v), encode(t, without)) {
		t.Fatal("the epoch is still known")
	}
}

// sealed appends the checksum.
func sealed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func FuzzDecoding(f *testing.F) {
	b := encode(f, sample())
	f.Add(b[:len(b)-4])
	b = encode(f, new(levels.Inventory))
	f.Add(b[:len(b)-4])
	p := levels.Policy{L0Files: 2, Fanout: 2, Granularity: 1}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := new(levels.Inventory)
		if err := v.UnmarshalBinary(sealed(b)); err != nil {
			if !errors.Is(err, levels.ErrEncoding) {
				t.Fatal(err)
			}
			return
		}
		if v.Len()+v.Strays() > len(b)/3 {
			t.Fatalf("%d files of %d bytes", v.Len(), len(b))
		}
		again := new(levels.Inventory)
		if err := again.UnmarshalBinary(encode(t, v)); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(slices.Collect(v.All()), slices.Collect(again.All()), func(a, b *ltx.FileInfo) bool { return *a == *b }) {
			t.Fatal("decoded differently")
		}
		reset := new(levels.Inventory)
		reset.Reset(slices.Collect(v.All()))
		if reset.Len() != v.Len() || reset.MaxTXID() != v.MaxTXID() {
			t.Fatal("listed differently")
		}
		_, _ = v.Restorable(), v.Bytes()
		v.CompactionDue(p)
		v.SnapshotDue(p, time.Now())
		v.NextRetention(p)
	})
}
