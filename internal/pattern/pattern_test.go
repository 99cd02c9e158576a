package pattern

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func valuesOf(p *Pattern, id string) (values []string) {
	for _, value := range p.Values(id) {
		values = append(values, value)
	}
	return values
}

// Random patterns, values and names over an alphabet that makes accidents likely.
func TestLocateAndMatchAreInverses(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	word := func(letters string, most int) string {
		var b strings.Builder
		for range r.IntN(most + 1) {
			b.WriteByte(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	located, matches := 0, 0
	for range 50_000 {
		var source strings.Builder
		names := []string{"a", "b", "c", "d"}
		for range 1 + r.IntN(3) {
			source.WriteString("/" + word("xy.-", 2))
			for range r.IntN(3) {
				if len(names) > 0 {
					source.WriteString("{{" + names[0] + "}}" + word("xy.-", 2))
					names = names[1:]
				}
			}
		}
		p, err := Parse(source.String())
		if err != nil {
			continue
		}
		var values []string
		for range p.Names() {
			values = append(values, word("xy.-w", 4))
		}
		id := strings.Join(values, "/")
		if path, rel, ok := p.Locate(id); ok {
			located++
			back, backRel, ok := p.Match(path)
			if !ok || back != id || backRel != rel || filepath.Clean(path) != path || len(p.Names()) > 0 && !slices.Equal(valuesOf(p, back), values) {
				t.Fatalf("seed %d: %s: %q became %q, which matches as %q, %v", seed, p, id, path, back, ok)
			}
		}
		path := p.Root()
		for _, seg := range p.rest {
			name := seg[0]
			for _, text := range seg[1:] {
				name += word("xy.-w", 4) + text
			}
			path = strings.TrimSuffix(path, "/") + "/" + name
		}
		if id, rel, ok := p.Match(path); ok {
			matches++
			if back, backRel, ok := p.Locate(id); !ok || back != path || backRel != rel {
				t.Fatalf("seed %d: %s matches %q as %q, which became %q, %v", seed, p, path, id, back, ok)
			}
		}
	}
	if located < 1000 || matches < 1000 {
		t.Errorf("seed %d: only %d IDs and %d paths were tried", seed, located, matches)
	}
}

func TestFilesThatBelongToADatabaseAreKnown(t *testing.T) {
	for name, want := range map[string]bool{
		"x.db-wal": true, "x.db-shm": true, "x.db-journal": true, "x.db.tmp": true, "x.db-txid": true,
		".x.db-litestream": true, ".multidb": true, ".multidb-restore-1": true, "x.db-mj0123ABCD9": true,
		"x.db": false, "wal": false, "x.db-wal.db": false, "x.tmp.db": false, "multidb": false,
		"x-mj": false, "x-mj0123abcd9": false, "-mj012345678": false, "": false,
	} {
		if got := IsSidecar(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func FuzzPatternMatch(f *testing.F) {
	f.Add("/data/{{project}}/databases/{{database}}.db", "/data/p/databases/d.db", "p/d")
	f.Add("/d/{{a}}-{{b}}", "/d/x-y-z", "x-y/z")
	f.Add("/d/{{a}}", "/d/x.db-wal", "..")
	f.Add("/*/x", "//x", "")
	f.Fuzz(func(t *testing.T, pattern, path, id string) {
		p, err := Parse(pattern)
		if err != nil {
			return
		}
		if id, _, ok := p.Match(path); ok {
			if back, _, ok := p.Locate(id); !ok || back != path {
				t.Fatalf("%q matches %q, but Locate gives %q, %v", pattern, path, back, ok)
			}
			if n := len(p.Names()); n > 0 && strings.Join(valuesOf(p, id), "/") != id {
				t.Fatalf("%q: the values of %q are %q", pattern, id, valuesOf(p, id))
			}
		}
		if path, _, ok := p.Locate(id); ok {
			if filepath.Clean(path) != path || strings.IndexByte(path, 0) >= 0 {
				t.Fatalf("%q and %q give the path %q", pattern, id, path)
			}
			if back, _, ok := p.Match(path); !ok || back != id {
				t.Fatalf("%q: %q became %q, which matches as %q, %v", pattern, id, path, back, ok)
			}
		}
	})
}

// A first listing matches 100,000 paths: an ID of several values is one
// allocation of its exact size, and other IDs are parts of the path.
func TestAMatchAllocatesAtMostTheID(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          float64
	}{
		{"/d/main.db", "/d/main.db", 0},
		{"/d/{{a}}.db", "/d/x.db", 0},
		{"/d/{{a}}/databases/x-{{b}}.db", "/d/project0/databases/x-database0.db", 1},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(100, func() {
			if _, _, ok := p.Match(c.path); !ok {
				t.Error("no match")
			}
		}); got > c.want {
			t.Errorf("%s: %v allocations, want %v", c.pattern, got, c.want)
		}
	}
}
