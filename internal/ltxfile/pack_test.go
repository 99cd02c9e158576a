package ltxfile

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/superfly/ltx"
)

// TestWhatIsPackedMergesIntoTheSameFile, packed in any order, together with files that are not.
func TestWhatIsPackedMergesIntoTheSameFile(t *testing.T) {
	for seed := range uint64(100) {
		files := chain(t, seed, 12)[int(seed%3):]
		var want bytes.Buffer
		if _, _, err := Merge(&want, readers(files)); err != nil {
			t.Fatal(err)
		}
		type part struct {
			data   []byte
			packed bool
		}
		var parts []part
		size := 0
		for _, f := range files {
			parts, size = append(parts, part{f, false}), size+len(f)
		}
		rnd := rand.New(rand.NewPCG(seed, 2))
		for range 1 + rnd.IntN(6) {
			from := rnd.IntN(len(parts))
			to := from + 1 + rnd.IntN(len(parts)-from)
			var data [][]byte
			for _, p := range parts[from:to] {
				data = append(data, p.data)
			}
			packed, err := Pack(data)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if len(packed) != cap(packed) || len(packed) > size {
				t.Errorf("seed %d: %d bytes with room for %d, of files of %d", seed, len(packed), cap(packed), size)
			}
			dec := ltx.NewDecoder(NewPacked(packed))
			if err := dec.DecodeHeader(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			var ph ltx.PageHeader
			for page := make([]byte, 512); dec.DecodePage(&ph, page) == nil; {
				if ph.Pgno > dec.Header().Commit {
					t.Errorf("seed %d: page %d of %d was kept", seed, ph.Pgno, dec.Header().Commit)
				}
			}
			parts = append(parts[:from:from], append([]part{{packed, true}}, parts[to:]...)...)
		}
		var all []io.Reader
		for _, p := range parts {
			if p.packed {
				all = append(all, NewPacked(p.data))
			} else {
				all = append(all, bytes.NewReader(p.data))
			}
		}
		var got bytes.Buffer
		if _, _, err := Merge(&got, all); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("seed %d: %d bytes, want %d", seed, got.Len(), want.Len())
		}
	}
}

// TestNoFileThatIsCutOrForeignIsPacked.
func TestNoFileThatIsCutOrForeignIsPacked(t *testing.T) {
	files := chain(t, 1, 3)
	packed, err := Pack(files[:2])
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(packed) {
		if _, err := Pack([][]byte{packed[:n], files[2]}); err == nil {
			t.Fatalf("%d bytes of %d were packed", n, len(packed))
		}
	}
	if _, err := Pack([][]byte{files[0], files[2]}); err == nil {
		t.Error("packed with a gap")
	}
	if _, err := Pack([][]byte{files[1], files[0]}); err == nil {
		t.Error("packed in another order")
	}
	former := bytes.Clone(files[0])
	former[105] &^= 1 // the page is a frame of its own
	if _, err := Pack([][]byte{former, files[1]}); err == nil {
		t.Error("a page of the former format was packed")
	}
	rnd := rand.New(rand.NewPCG(1, 3))
	for range 2000 {
		bad := bytes.Clone(packed)
		for range 1 + rnd.IntN(4) {
			bad[rnd.IntN(len(bad))] ^= byte(1 << rnd.IntN(8))
		}
		_, _ = Pack([][]byte{bad, files[2]}) // does not panic
	}
}
