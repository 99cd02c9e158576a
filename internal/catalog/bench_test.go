package catalog

import (
	"context"
	"fmt"
	"testing"
)

// fleet is how many databases the benchmarks have.
const fleet = 100_000

func record(i int) Record {
	id := fmt.Sprintf("project%d/db%06d", i/100, i)
	return Record{
		ID:        id,
		Path:      "/data/" + id + ".db",
		Vars:      []Var{{"project", fmt.Sprintf("project%d", i/100)}, {"database", fmt.Sprintf("db%06d", i)}},
		RelPath:   id + ".db",
		Dev:       64769,
		Ino:       uint64(1_000_000 + i),
		LastWrite: 1_700_000_000_000_000_000 + int64(i),
		TXID:      uint64(i),
		State:     make([]byte, 120),
		Files:     make([]byte, 80),
		Prefix:    "litestream/" + id + "/",
		Flags:     uint32(i % 7),
	}
}

func openBench(b *testing.B, dir string) *Catalog {
	b.Helper()
	c, err := Open(b.Context(), dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func closeBench(b *testing.B, c *Catalog) {
	b.Helper()
	if err := c.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func filled(b *testing.B) *Catalog {
	b.Helper()
	c := openBench(b, b.TempDir())
	b.Cleanup(func() { closeBench(b, c) })
	for i := range fleet {
		c.Put(record(i))
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	return c
}

func perRecord(b *testing.B) {
	b.ReportAllocs()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/fleet, "ns/record")
}

// BenchmarkOpenOfAFleet verifies the file of 100,000 records.
func BenchmarkOpenOfAFleet(b *testing.B) {
	dir := b.TempDir()
	c := openBench(b, dir)
	for i := range fleet {
		c.Put(record(i))
	}
	closeBench(b, c)
	for b.Loop() {
		c := openBench(b, dir)
		b.StopTimer()
		closeBench(b, c)
		b.StartTimer()
	}
	perRecord(b)
}

// BenchmarkLoadOfAFleet reads 100,000 records: well under two seconds.
func BenchmarkLoadOfAFleet(b *testing.B) {
	c := filled(b)
	for b.Loop() {
		n := 0
		for _, err := range c.Load(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != fleet {
			b.Fatalf("%d records", n)
		}
	}
	perRecord(b)
}

// BenchmarkFlushOfAFleet writes all 100,000 records at once.
func BenchmarkFlushOfAFleet(b *testing.B) {
	c := filled(b)
	for b.Loop() {
		for i := range fleet {
			c.Put(record(i))
		}
		if err := c.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	perRecord(b)
}

// BenchmarkFlushOfASecond writes what a busy second changes: 1,000 of them.
func BenchmarkFlushOfASecond(b *testing.B) {
	c := filled(b)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		for i := range 1000 {
			c.Put(record((n*7919 + i*97) % fleet))
		}
		if err := c.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
