// Rooms measures how the root package is built: how many files and lines it has, the
// largest circle of its files, and the fields and methods of Manager. Tests do not
// count. In a circle each file needs every other, directly or through others, so none
// can be read or moved alone. A file needs another if it names something that is
// declared there: a function, a type, a variable, a constant, a method, a field.
//
// It prints what it measured. Where a limit is given and passed it fails:
//
//	go run -C tools ./rooms -max-circle 9
package main

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"go/types"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "..", "the module's `directory`")
	typ := flag.String("type", "Manager", "the `type` whose fields and methods are counted")
	limits := map[string]*int{}
	for _, l := range []struct{ name, of string }{
		{"files", "files"}, {"lines", "lines"}, {"circle", "files in one circle"},
		{"fields", "fields of the type"}, {"methods", "methods of the type"},
	} {
		limits[l.name] = flag.Int("max-"+l.name, 0, "fail if there are more `"+l.of+"`; 0: no limit")
	}
	flag.Parse()

	h, err := measure(*dir, *typ)
	if err != nil {
		log.Fatal(err)
	}
	failed := false
	for _, f := range []struct {
		name  string
		value int
	}{
		{"files", len(h.files)}, {"lines", h.lines}, {"circle", len(h.circle)}, {"fields", h.fields}, {"methods", h.methods},
	} {
		verdict := ""
		if limit := *limits[f.name]; limit > 0 {
			verdict = fmt.Sprintf("at most %d", limit)
			if f.value > limit {
				verdict, failed = verdict+": FAIL", true
			}
		}
		fmt.Printf("%-8s %6d  %s\n", f.name, f.value, verdict)
	}
	fmt.Printf("largest circle: %s\n", strings.Join(h.circle, " "))
	if failed {
		os.Exit(1)
	}
}

// house is what was measured.
type house struct {
	files           []string // their names, sorted
	lines           int      // of all files, comments and empty ones included
	circle          []string // the files of the largest circle, sorted
	fields, methods int      // of the type
}

// measure loads the package in dir and measures it, and the type of that name in it.
func measure(dir, typ string) (house, error) {
	var h house
	pkgs, err := packages.Load(&packages.Config{
		Dir: dir,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes |
			packages.NeedTypesInfo | packages.NeedImports | packages.NeedDeps,
	}, ".")
	if err != nil {
		return h, err
	}
	if packages.PrintErrors(pkgs) > 0 || len(pkgs) != 1 {
		return h, fmt.Errorf("%s does not load", dir)
	}
	p := pkgs[0]
	name := filepath.Base
	for _, f := range p.GoFiles {
		h.files = append(h.files, name(f))
		n, err := count(f)
		if err != nil {
			return h, err
		}
		h.lines += n
	}
	slices.Sort(h.files)

	needs := map[string]map[string]bool{}
	for _, f := range p.Syntax {
		from := name(p.Fset.Position(f.Pos()).Filename)
		needs[from] = map[string]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := p.TypesInfo.Uses[id]
			if obj == nil || obj.Pkg() != p.Types {
				return true
			}
			if to := name(p.Fset.Position(obj.Pos()).Filename); to != from {
				needs[from][to] = true
			}
			return true
		})
	}
	for _, c := range circles(h.files, needs) {
		if len(c) > len(h.circle) {
			h.circle = c
		}
	}

	obj, ok := p.Types.Scope().Lookup(typ).(*types.TypeName)
	if !ok {
		return h, fmt.Errorf("there is no type %s", typ)
	}
	named := obj.Type().(*types.Named)
	h.methods = named.NumMethods()
	if s, ok := named.Underlying().(*types.Struct); ok {
		h.fields = s.NumFields()
	}
	return h, nil
}

// count returns how many lines a file has.
func count(path string) (lines int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	s := bufio.NewScanner(f)
	for s.Scan() {
		lines++
	}
	return lines, s.Err()
}

// circles returns the strongly connected components of the graph in which each file
// leads to those that it needs (Tarjan, 1972). A file that is in no circle with others
// is a component by itself. All files that are needed are in all.
func circles(all []string, needs map[string]map[string]bool) (out [][]string) {
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	var visit func(string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack, on[v] = append(stack, v), true
		for w := range needs[v] {
			if index[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if on[w] {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		i := slices.Index(stack, v)
		c := slices.Clone(stack[i:])
		for _, w := range c {
			on[w] = false
		}
		stack = stack[:i]
		slices.Sort(c)
		out = append(out, c)
	}
	for _, v := range all {
		if index[v] == 0 {
			visit(v)
		}
	}
	return out
}
