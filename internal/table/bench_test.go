package table

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"testing"
)

// database is a value as the fleet has them: it carries what it is found by.
type database struct {
	id       string
	dev, ino uint64
	head     string // with id and tail, the prefix at the replica
	tail     string
}

type (
	fileID struct{ dev, ino uint64 }
	prefix struct{ head, id, tail string }
)

const fleet = 100_000

func databases() []*database {
	all := make([]*database, fleet)
	for i := range all {
		all[i] = &database{id: fmt.Sprintf("project%d/db%d", i/100, i%100), dev: 1, ino: uint64(1000 + i), head: "backups/"}
	}
	return all
}

// tables finds the databases of a fleet as the Manager does, by ID, by file and by prefix.
type tables struct {
	ids      *Table[string, database]
	files    *Table[fileID, database]
	prefixes *Table[prefix, database]
}

func newTables() *tables {
	seed := maphash.MakeSeed()
	return &tables{
		New(func(d *database) string { return d.id }, func(id string) uint64 { return maphash.String(seed, id) },
			func(a, b string) bool { return a == b }),
		New(func(d *database) fileID { return fileID{d.dev, d.ino} }, func(id fileID) uint64 { return maphash.Comparable(seed, id) },
			func(a, b fileID) bool { return a == b }),
		New(func(d *database) prefix { return prefix{d.head, d.id, d.tail} }, func(p prefix) uint64 { return maphash.Comparable(seed, p) },
			func(a, b prefix) bool { return a == b }),
	}
}

func (t *tables) put(d *database) { t.ids.Put(d); t.files.Put(d); t.prefixes.Put(d) }

// maps is what would take the place of the tables.
type maps struct {
	ids      map[string]*database
	files    map[fileID]*database
	prefixes map[prefix]*database
}

func newMaps() *maps {
	return &maps{map[string]*database{}, map[fileID]*database{}, map[prefix]*database{}}
}

func (m *maps) put(d *database) {
	m.ids[d.id], m.files[fileID{d.dev, d.ino}], m.prefixes[prefix{d.head, d.id, d.tail}] = d, d, d
}

func (t *tables) find(d *database) bool {
	return t.ids.Get(d.id) == d && t.files.Get(fileID{d.dev, d.ino}) == d && t.prefixes.Get(prefix{d.head, d.id, d.tail}) == d
}

func (m *maps) find(d *database) bool {
	return m.ids[d.id] == d && m.files[fileID{d.dev, d.ino}] == d && m.prefixes[prefix{d.head, d.id, d.tail}] == d
}

type index interface {
	put(*database)
	find(*database) bool
}

var indexes = map[string]func() index{
	"tables": func() index { return newTables() },
	"maps":   func() index { return newMaps() },
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one has finalized
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// bytesEach is what it takes to find a database of a fleet, besides its own value.
func bytesEach(make func() index, all []*database) float64 {
	before := heap()
	x := make()
	for _, d := range all {
		x.put(d)
	}
	n := float64(heap()-before) / float64(len(all))
	runtime.KeepAlive(all)
	runtime.KeepAlive(x)
	return n
}

// TestTablesTakeLessThanAThirdOfWhatMapsTake says why there are tables. Maps with these
// keys would not even be enough: two prefixes that are the same text but cut
// differently must be equal, for which a map needs the whole text of each.
func TestTablesTakeLessThanAThirdOfWhatMapsTake(t *testing.T) {
	all := databases()
	tables, maps := bytesEach(indexes["tables"], all), bytesEach(indexes["maps"], all)
	t.Logf("%.0f and %.0f bytes a database", tables, maps)
	if 3*tables > maps {
		t.Errorf("three tables take %.0f bytes a database, three maps %.0f: use maps", tables, maps)
	}
}

// BenchmarkFind finds a database of a fleet in each of three ways, and reports what
// the ways take in bytes a database.
func BenchmarkFind(b *testing.B) {
	all := databases()
	for name, make := range indexes {
		b.Run(name, func(b *testing.B) {
			x := make()
			for _, d := range all {
				x.put(d)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !x.find(all[i*7919%fleet]) {
					b.Fatal("missing")
				}
			}
			b.ReportMetric(bytesEach(make, all), "B/database")
		})
	}
}
