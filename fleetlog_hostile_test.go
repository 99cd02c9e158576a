package multidb_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/multidbtest"
)

// hostileLog is a replica whose log has everything of two tenants, x and y, and what each
// had at its TXIDs. Each call makes the same.
func hostileLog(t *testing.T) (rep *multidbtest.Replica, want map[multidb.ID][]string) {
	t.Helper()
	rep = logReplica()
	b := newLogBox(t, rep)
	b.start(withLog)
	want = map[multidb.ID][]string{}
	for i := range 4 {
		for _, id := range []multidb.ID{"x", "y"} {
			v := fmt.Sprint(id, i)
			b.must(id, v)
			want[id] = append(want[id], v)
		}
	}
	b.kill()
	return rep, want
}

// objectsOf are the objects of the log, by name.
func objectsOf(t *testing.T, rep *multidbtest.Replica) map[string][]byte {
	t.Helper()
	o, err := rep.Objects("fleet")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for info, err := range o.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		rc, err := o.Open(t.Context(), info.Name, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(rc); err != nil {
			t.Fatal(err)
		}
		all[info.Name] = data.Bytes()
	}
	return all
}

// hostileMemory is what a restore of a few rows may allocate, whatever a store says.
const hostileMemory = 96 << 20

// readHostile restores a tenant by every way that reads a log: each gives what was promised,
// or an error.
func readHostile(t *testing.T, what string, rep *multidbtest.Replica, want map[multidb.ID][]string, dir string) (refused int) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i, id := range []multidb.ID{"x", "y"} {
		f, err := multidb.ReadFleetLog(rep, "fleet")
		if err != nil {
			t.Fatal(err)
		}
		db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
		out := filepath.Join(dir, fmt.Sprint(strings.ReplaceAll(what, "/", "_"), i))
		switch err := multidb.RestoreFrom(t.Context(), f, db, multidb.RestoreOptions{OutputPath: out}); {
		case err != nil:
			refused++
		default:
			if got := rows(t, out); !slices.Equal(got, want[id]) {
				t.Errorf("%s: %s restores to %q without an error, it was %q", what, id, got, want[id])
			}
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > hostileMemory {
		t.Errorf("%s: two restores allocated %d MiB", what, n>>20)
	}
	return refused
}

// TestADamagedObjectOfALogGivesAnErrorOrWhatWasPromised: each object of a log is damaged in
// turn, by flipped bits, cuts, garbage and other objects in its place.
func TestADamagedObjectOfALogGivesAnErrorOrWhatWasPromised(t *testing.T) {
	rep, want := hostileLog(t)
	dir := t.TempDir()
	whole := objectsOf(t, rep)
	if refused := readHostile(t, "whole", rep, want, dir); refused != 0 {
		t.Fatal("what nobody has damaged is refused")
	}
	rng := rand.New(rand.NewPCG(1, 7))
	garbage := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	names := slices.Sorted(maps.Keys(whole))
	tries, refused := 0, 0
	for _, name := range names {
		damages := map[string]func(b []byte) []byte{
			"is empty":          func([]byte) []byte { return nil },
			"is garbage":        func(b []byte) []byte { return garbage(len(b)) },
			"is long garbage":   func([]byte) []byte { return garbage(1 << 20) },
			"is zeros":          func(b []byte) []byte { return make([]byte, len(b)) },
			"goes on":           func(b []byte) []byte { return append(b, garbage(100)...) },
			"is there twice":    func(b []byte) []byte { return append(b, b...) },
			"is another object": func([]byte) []byte { return whole[names[rng.IntN(len(names))]] },
			"has a great end":   func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xff}, 64)...) },
		}
		for i := range 3 {
			damages[fmt.Sprint("is cut ", i)] = func(b []byte) []byte { return b[:rng.IntN(len(b))] }
			damages[fmt.Sprint("has another bit ", i)] = func(b []byte) []byte {
				at := len(b) - 1 - rng.IntN(min(len(b), 1<<(4+4*i)))
				b[at] ^= 1 << rng.IntN(8)
				return b
			}
		}
		for _, damage := range slices.Sorted(maps.Keys(damages)) {
			if err := rep.CorruptObject("fleet", name, damages[damage]); err != nil {
				t.Fatal(err)
			}
			tries++
			refused += min(1, readHostile(t, fmt.Sprint(tries, " ", name, " ", damage), rep, want, dir))
			if err := rep.CorruptObject("fleet", name, func([]byte) []byte { return bytes.Clone(whole[name]) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < tries/2 {
		t.Errorf("%d of %d damages were found: the test does not do what it should", refused, tries)
	}
}

// TestAForgedObjectOfALogGivesAnError, though all its checksums are right: TXIDs that do
// not follow, sizes that nothing has, files that are none, large files that are not there.
func TestAForgedObjectOfALogGivesAnError(t *testing.T) {
	for name, file := range map[string]format.File{
		"no LTX file":                   {Data: []byte("no LTX file at all, though as long as the header of one would have to be for it to be read, and some more")},
		"a short file":                  {Data: []byte("short")},
		"a range that ends the numbers": {Record: format.Record{Max: 1<<63 - 1}, Data: make([]byte, 200)},
		"an overlap":                    {Record: format.Record{Min: 1}, Data: make([]byte, 200)},
		"a large file that is missing":  {Record: format.Record{Large: 77, Size: 2 << 20}},
		"a large file of all sizes":     {Record: format.Record{Large: 77, Size: 1 << 60}},
	} {
		t.Run(name, func(t *testing.T) {
			rep, want := hostileLog(t)
			var author *format.Log
			for name, b := range objectsOf(t, rep) {
				if epoch, seq, ok := format.ParseObjectName(name); ok {
					if e, _, err := format.Decode(b, int64(len(b)), epoch, seq); err == nil && e.Log != nil && (author == nil || seq > author.Seq) {
						author = e.Log
					}
				}
			}
			if author == nil {
				t.Fatal("the log has no object")
			}
			// Whoever forges it goes on with the first tenant of the last object.
			rec := author.Records[0]
			tenant := multidb.ID(filepath.Base(rec.Prefix))
			file.Prefix = rec.Prefix
			file.Min, file.Max = cmp.Or(file.Min, rec.Max+1), cmp.Or(file.Max, rec.Max+1)
			forged := format.Log{Author: author.Author, Epoch: author.Epoch, Seq: author.Seq + 1, Packed: author.Packed, Trim: author.Trim, Created: author.Created}
			data, err := forged.Encode([]format.File{file})
			if err != nil {
				t.Logf("nobody can write it: %v", err)
				return
			}
			o, err := rep.Objects("fleet")
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Create(t.Context(), format.ObjectName(forged.Epoch, forged.Seq), data); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for id, had := range want {
				f, err := multidb.ReadFleetLog(rep, "fleet")
				if err != nil {
					t.Fatal(err)
				}
				db := multidb.Database{ID: id, Vars: []multidb.Var{{Name: "tenant", Value: string(id)}}}
				out := filepath.Join(t.TempDir(), "out.db")
				err = multidb.RestoreFrom(t.Context(), f, db, multidb.RestoreOptions{OutputPath: out})
				switch {
				case id == tenant && err == nil && !slices.Equal(rows(t, out), had):
					t.Errorf("%s restores to another state without an error", id)
				case id == tenant && err == nil && name != "an overlap": // which the history before it stands against
					t.Errorf("%s restores without an error", id)
				case id != tenant && err != nil:
					t.Errorf("%s, which has nothing to do with it: %v", id, err)
				}
				if _, err := multidb.UnpackFrom(t.Context(), f, db); id == tenant && err == nil && name != "an overlap" {
					t.Errorf("%s is unpacked without an error", id)
				} else if errors.Is(err, multidb.ErrFenced) {
					t.Errorf("%s: %v", id, err)
				}
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > hostileMemory {
				t.Errorf("%d MiB were allocated", n>>20)
			}
		})
	}
}
