package format

import "testing"

func BenchmarkEncode1000RecordsOf1KiB(b *testing.B) {
	in := files(1000, 1024)
	b.ReportAllocs()
	b.SetBytes(1000 * 1024)
	for b.Loop() {
		l := &Log{Epoch: 1, Seq: 1, Packed: 1, Trim: 1}
		if _, err := l.Encode(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFooterOf1000Records(b *testing.B) {
	_, object := many(b, 1000, 1024)
	end := object[len(object)-Suffix:]
	b.ReportAllocs()
	for b.Loop() {
		if _, need, err := Decode(end, int64(len(object)), 1, 1); err != nil || need > 0 {
			b.Fatal(need, err)
		}
	}
}
