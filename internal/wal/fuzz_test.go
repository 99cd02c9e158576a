package wal

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzScan reads arbitrary bytes as a log. Whatever is yielded must be what
// litestream's reader yields, but for frames of page 0, which SQLite ends at.
func FuzzScan(f *testing.F) {
	f.Fuzz(func(t *testing.T, log []byte, bufFrames uint8) {
		h, err := ParseHeader(log)
		if err != nil {
			return
		}
		got := scan(t, log, 1+int64(bufFrames%8))
		want := litestreamScan(t, log)
		if i := slices.IndexFunc(want, func(f frame) bool { return f.pgno == 0 }); i >= 0 {
			want = want[:i]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d frames, litestream reads %d", len(got), len(want))
		}
		for i, g := range got {
			off := HeaderSize + int64(i)*h.FrameSize() + FrameHeaderSize
			if g.page != string(log[off:off+int64(h.PageSize)]) {
				t.Fatalf("frame %d is not what stands in the log", i)
			}
		}
		end, pages, err := CommittedEnd(bytes.NewReader(log), h, h.Start(), make([]byte, h.FrameSize()), 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := h.Frames(end); n > int64(len(got)) || n > 0 && got[n-1].commit != pages {
			t.Fatalf("committed end after %d frames of %d", n, len(got))
		}
	})
}
