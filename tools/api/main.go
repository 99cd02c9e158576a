// Api lists what the packages of a module export that others can import: one line for
// each function, type, constant with its value, variable, struct field with its tag,
// and method. The listing is kept in the repository, so that nothing of the public API
// goes, and nothing comes, unnoticed.
//
// It writes the listing to a file, or compares the file with the code and fails if
// they differ:
//
//	go run -C tools ./api -o ../docs/api.txt
//	go run -C tools ./api -check ../docs/api.txt
//
// Commands, internal packages and tests are left out. It sees the files of the
// system that it runs on.
package main

import (
	"flag"
	"fmt"
	"go/types"
	"log"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "..", "the module's `directory`")
	out := flag.String("o", "", "write the listing to this `file`")
	check := flag.String("check", "", "compare the listing in this `file` with the code")
	flag.Parse()
	if (*out == "") == (*check == "") {
		log.Fatal("give either -o or -check")
	}

	now, err := list(*dir)
	if err != nil {
		log.Fatal(err)
	}
	if *out != "" {
		if err := os.WriteFile(*out, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
			log.Fatal(err)
		}
		return
	}
	before, err := os.ReadFile(*check)
	if err != nil {
		log.Fatal(err)
	}
	if diff := compare(string(before), now); diff != "" {
		log.Fatalf("%sThe public API is not what %s says (- in the file, + in the code).\nIf that is on purpose, run `make api` and commit the file.", diff, *check)
	}
	fmt.Printf("%d lines of public API, as in %s\n", len(now), *check)
}

// compare returns a line for each one that only the listing before has ("-"), and for
// each that only the one of now has ("+"), those of one name beside each other.
func compare(before string, now []string) string {
	var diff []string
	was := strings.Split(strings.TrimSuffix(before, "\n"), "\n")
	for _, line := range was {
		if !slices.Contains(now, line) {
			diff = append(diff, line+"\x00-")
		}
	}
	for _, line := range now {
		if !slices.Contains(was, line) {
			diff = append(diff, line+"\x00+")
		}
	}
	slices.Sort(diff)
	var text strings.Builder
	for _, d := range diff {
		line, sign, _ := strings.Cut(d, "\x00")
		fmt.Fprintln(&text, sign, line)
	}
	return text.String()
}

// list returns the listing of all packages of the module in dir, sorted.
func list(dir string) ([]string, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir: dir,
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedSyntax | packages.NeedImports | packages.NeedDeps |
			packages.NeedModule,
	}, "./...")
	if err != nil {
		return nil, err
	}
	if packages.PrintErrors(pkgs) > 0 {
		return nil, fmt.Errorf("%s does not load", dir)
	}
	var lines []string
	for _, p := range pkgs {
		if p.Name == "main" || p.Types == nil || slices.Contains(strings.Split(p.PkgPath, "/"), "internal") {
			continue
		}
		lines = append(lines, exported(p.Types, path.Dir(p.Module.Path)+"/")...)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s exports nothing", dir)
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

// exported returns the lines of one package. Paths are written without prefix.
func exported(pkg *types.Package, prefix string) []string {
	l := listing{pkg: pkg, prefix: prefix}
	for _, name := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch obj := obj.(type) {
		case *types.Const:
			l.add("const %s %s = %s", name, l.text(obj.Type()), obj.Val().ExactString())
		case *types.Var:
			l.add("var %s %s", name, l.text(obj.Type()))
		case *types.Func:
			l.add("func %s%s", name, l.signature(obj))
		case *types.TypeName:
			l.typ(obj)
		}
	}
	return l.lines
}

// listing collects the lines of one package.
type listing struct {
	pkg    *types.Package
	prefix string // of paths, left out
	lines  []string
}

func (l *listing) add(format string, args ...any) {
	l.lines = append(l.lines, l.name(l.pkg)+": "+fmt.Sprintf(format, args...))
}

func (l *listing) name(p *types.Package) string { return strings.TrimPrefix(p.Path(), l.prefix) }

// text names a type as code of the package itself would, other packages by their path.
func (l *listing) text(t types.Type) string {
	return types.TypeString(nameless(t), func(p *types.Package) string {
		if p == l.pkg {
			return ""
		}
		return l.name(p)
	})
}

// signature is a function's type parameters, parameters and results.
func (l *listing) signature(f *types.Func) string {
	var of []string
	for p := range f.Signature().TypeParams().TypeParams() {
		of = append(of, l.text(p)+" "+l.text(p.Constraint()))
	}
	text := strings.TrimPrefix(l.text(f.Type()), "func")
	if len(of) > 0 {
		text = "[" + strings.Join(of, ", ") + "]" + text
	}
	return text
}

// typ lists a type, its fields and its methods.
func (l *listing) typ(obj *types.TypeName) {
	if obj.IsAlias() {
		l.add("type %s = %s", obj.Name(), l.text(types.Unalias(obj.Type())))
		return
	}
	name := l.text(obj.Type()) // with its type parameters
	switch u := obj.Type().Underlying().(type) {
	case *types.Struct:
		l.add("type %s struct", name)
		l.fields(name, u)
	case *types.Interface:
		l.add("type %s interface", name)
		l.contract(name, u)
		return
	default:
		l.add("type %s %s", name, l.text(u))
	}

	// The methods of the pointer are all there are, those of embedded fields included.
	all, ofValue := types.NewMethodSet(types.NewPointer(obj.Type())), types.NewMethodSet(obj.Type())
	for i := range all.Len() {
		f := all.At(i).Obj().(*types.Func)
		if !f.Exported() {
			continue
		}
		receiver := name
		if ofValue.Lookup(f.Pkg(), f.Name()) == nil {
			receiver = "*" + name
		}
		l.add("method (%s) %s%s", receiver, f.Name(), l.signature(f))
	}
}

// fields lists the exported fields of a struct, and through an embedded struct that
// is not exported those that it lends.
func (l *listing) fields(of string, s *types.Struct) {
	for i := range s.NumFields() {
		f := s.Field(i)
		if f.Exported() {
			tag := ""
			if t := s.Tag(i); t != "" {
				tag = " `" + t + "`"
			}
			kind := "field"
			if f.Embedded() {
				kind = "embedded field"
			}
			l.add("%s %s.%s %s%s", kind, of, f.Name(), l.text(f.Type()), tag)
			continue
		}
		if !f.Embedded() {
			continue
		}
		t := f.Type()
		if p, ok := t.Underlying().(*types.Pointer); ok {
			t = p.Elem()
		}
		if inner, ok := t.Underlying().(*types.Struct); ok {
			l.fields(of, inner)
		}
	}
}

// contract lists what a type must have to be the interface, embedded interfaces included.
func (l *listing) contract(of string, i *types.Interface) {
	for m := range i.Methods() {
		if m.Exported() {
			l.add("interface method %s.%s%s", of, m.Name(), l.signature(m))
		} else {
			l.add("interface %s has unexported methods", of)
		}
	}
	for t := range i.EmbeddedTypes() {
		if _, ok := t.Underlying().(*types.Interface); !ok {
			l.add("interface %s holds only %s", of, l.text(t))
		}
	}
}

// nameless returns a type without the names of parameters, which are documentation:
// a caller does not see that one is called otherwise.
func nameless(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Signature:
		return types.NewSignatureType(nil, nil, nil, namelessAll(t.Params()), namelessAll(t.Results()), t.Variadic())
	case *types.Pointer:
		return types.NewPointer(nameless(t.Elem()))
	case *types.Slice:
		return types.NewSlice(nameless(t.Elem()))
	case *types.Map:
		return types.NewMap(nameless(t.Key()), nameless(t.Elem()))
	case *types.Chan:
		return types.NewChan(t.Dir(), nameless(t.Elem()))
	}
	return t
}

func namelessAll(vars *types.Tuple) *types.Tuple {
	var all []*types.Var
	for v := range vars.Variables() {
		all = append(all, types.NewParam(v.Pos(), v.Pkg(), "", nameless(v.Type())))
	}
	return types.NewTuple(all...)
}
