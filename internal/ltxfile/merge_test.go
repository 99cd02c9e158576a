package ltxfile

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/superfly/ltx"
)

// chain makes files that follow each other, the first of all pages, and with an end of the
// database that moves.
func chain(t *testing.T, seed uint64, n int) (files [][]byte) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	size := 5 + rnd.IntN(20)
	for i := range n {
		before := size
		if i > 0 {
			size = max(1, size+rnd.IntN(7)-3)
		}
		hdr := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: uint32(size),
			MinTXID: ltx.TXID(i + 1), MaxTXID: ltx.TXID(i + 1), Timestamp: int64(i + 1), NodeID: uint64(i + 100)}
		var b bytes.Buffer
		enc, err := ltx.NewEncoder(&b)
		if err == nil {
			err = enc.EncodeHeader(hdr)
		}
		for pgno := 1; pgno <= size && err == nil; pgno++ {
			if i == 0 || pgno > before || rnd.IntN(3) == 0 {
				err = enc.EncodePage(ltx.PageHeader{Pgno: uint32(pgno)}, bytes.Repeat([]byte{byte(rnd.Uint32())}, 512))
			}
		}
		if err == nil {
			err = enc.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b.Bytes())
	}
	return files
}

func readers(files [][]byte) (all []io.Reader) {
	for _, f := range files {
		all = append(all, bytes.NewReader(f))
	}
	return all
}

func TestMergedFilesDoWhatACompactionDoesAndKeepTheLastWriter(t *testing.T) {
	for seed := range uint64(50) {
		for from := range 3 {
			files := chain(t, seed, 8)[from:]
			var want, got bytes.Buffer
			c, err := ltx.NewCompactor(&want, readers(files))
			if err != nil {
				t.Fatal(err)
			}
			c.HeaderFlags = ltx.HeaderFlagNoChecksum
			if err := c.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
			hdr, tr, err := Merge(&got, readers(files))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if hdr.NodeID != 107 || hdr.Timestamp != 8 || int(hdr.MinTXID) != from+1 || hdr.MaxTXID != 8 || tr.FileChecksum == 0 {
				t.Errorf("seed %d: %+v, %+v", seed, hdr, tr)
			}
			if read, same, err := Same(&want, &got); err != nil || !same || read != hdr {
				t.Errorf("seed %d, from %d: the same: %v, %v", seed, from, same, err)
			}
		}
	}
}

func TestWhatIsDamagedOrDoesNotFollowIsNotMerged(t *testing.T) {
	files := chain(t, 1, 4)
	for i, b := range [][][]byte{{files[0], files[2]}, {files[1], files[0]}, {files[0], files[1][:len(files[1])-9]}, {files[0], append(bytes.Clone(files[1][:120]), files[1][121:]...)}} {
		if _, _, err := Merge(io.Discard, readers(b)); err == nil {
			t.Errorf("%d was merged", i)
		}
	}
}

// TestWhatIsLeftOfAMergedFileLeadsToTheSameState, from each of its transactions on.
func TestWhatIsLeftOfAMergedFileLeadsToTheSameState(t *testing.T) {
	for seed := range uint64(50) {
		files := chain(t, seed, 8)
		var merged, want bytes.Buffer
		if _, _, err := Merge(&merged, readers(files[1:])); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Merge(&want, readers(files)); err != nil {
			t.Fatal(err)
		}
		for since := ltx.TXID(1); since < 11; since++ {
			var rest, got bytes.Buffer
			err := Since(&rest, bytes.NewReader(merged.Bytes()), since)
			if since < 3 || since > 8 {
				if err == nil {
					t.Errorf("of 2 to 8 was left what begins with %d", since)
				}
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			if _, _, err := Merge(&got, append(readers(files[:since-1]), &rest)); err != nil {
				t.Fatal(err)
			}
			if _, same, err := Same(bytes.NewReader(want.Bytes()), &got); err != nil || !same {
				t.Errorf("seed %d, since %d: the same: %v, %v", seed, since, same, err)
			}
		}
	}
}
