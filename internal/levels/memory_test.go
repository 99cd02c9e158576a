package levels

import (
	"runtime"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

func TestAFileTakesAtMost48BytesOfMemory(t *testing.T) {
	const fleet = 400
	vs := make([]*Inventory, fleet)
	before := heap()
	for i := range vs {
		v := new(Inventory)
		files := ltx.TXID(250 + i%50)
		for txid := range files {
			v.Add(&ltx.FileInfo{MinTXID: txid + 1, MaxTXID: txid + 1, Size: 1, CreatedAt: time.UnixMilli(int64(txid))})
			if i%2 == 0 && txid > files/2 { // as retention does
				v.Remove(&ltx.FileInfo{MinTXID: txid - files/2, MaxTXID: txid - files/2})
			}
		}
		vs[i] = v
	}
	after := heap()
	n := 0
	for _, v := range vs {
		n += v.Len()
	}
	if per := (after - before) / uint64(n); per > 48 {
		t.Fatalf("%d bytes per file", per)
	}
	runtime.KeepAlive(vs)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestFilesAddedOutOfOrderAreSorted(t *testing.T) {
	v := new(Inventory)
	for _, txid := range []ltx.TXID{5, 1, 9, 3, 5, 2} {
		v.Add(&ltx.FileInfo{MinTXID: txid, MaxTXID: txid, Size: int64(v.Len())})
	}
	v.Add(&ltx.FileInfo{MinTXID: 2, MaxTXID: 20})
	v.Add(&ltx.FileInfo{MinTXID: 0, MaxTXID: 20})
	v.Add(&ltx.FileInfo{MinTXID: 3, MaxTXID: 2})
	v.Add(&ltx.FileInfo{Level: 10, MinTXID: 3, MaxTXID: 3})
	v.Add(&ltx.FileInfo{Level: -1, MinTXID: 3, MaxTXID: 3})
	var got []ltx.TXID
	for info := range v.All() {
		got = append(got, info.MinTXID, info.MaxTXID)
	}
	want := []ltx.TXID{1, 1, 2, 2, 2, 20, 3, 3, 5, 5, 9, 9}
	if len(got) != len(want) || v.Len() != 6 || v.MaxTXID() != 20 {
		t.Fatalf("files %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("files %v", got)
		}
	}
	v.Remove(&ltx.FileInfo{MinTXID: 2, MaxTXID: 20})
	v.Remove(&ltx.FileInfo{MinTXID: 2, MaxTXID: 20})
	if v.MaxTXID() != 9 || v.Len() != 5 {
		t.Fatalf("max %d of %d files", v.MaxTXID(), v.Len())
	}
}
