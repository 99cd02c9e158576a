package config

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	yamltoken "github.com/goccy/go-yaml/token"
	"github.com/multidb-go/multidb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// libraryFiles parses the sources of package multidb.
func libraryFiles(t *testing.T) (*token.FileSet, []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return fset, files
}

func functions(files []*ast.File) map[string]*ast.FuncDecl {
	all := map[string]*ast.FuncDecl{}
	for _, f := range files {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				all[fn.Name.Name] = fn
			}
		}
	}
	return all
}

func TestEveryOptionOfTheLibraryHasAKey(t *testing.T) {
	_, files := libraryFiles(t)
	options := 0
	for name, fn := range functions(files) {
		result := fn.Type.Results
		if !strings.HasPrefix(name, "With") || result == nil || len(result.List) != 1 {
			continue
		}
		if id, ok := result.List[0].Type.(*ast.Ident); !ok || id.Name != "Option" {
			continue
		}
		options++
		if name == "WithS3" || name == "WithTracer" { // WithReplica of type s3; a tracer is code
			continue
		}
		functionOnly := len(fn.Type.Params.List) > 0
		for _, p := range fn.Type.Params.List {
			_, isFunc := p.Type.(*ast.FuncType)
			functionOnly = functionOnly && isFunc
		}
		if functionOnly { // no YAML for that
			continue
		}
		if libraryName(name) == "" {
			t.Errorf("multidb.%s has no key; add one to keys.go, and to doc.go", name)
		}
	}
	if options < 20 {
		t.Errorf("only %d options found: has the library moved?", options)
	}
}

func TestEveryKeySetsSomethingThatTheLibraryHas(t *testing.T) {
	_, files := libraryFiles(t)
	have := functions(files)
	s := &settings{}
	for _, k := range append(s.multiKeys(), s.sharedReplicaKeys()...) {
		if k.sets != "" && have[k.sets] == nil {
			t.Errorf("%s sets %s, which is not there", k.name, k.sets)
		}
	}
}

func TestEveryKeyIsInTheDocumentation(t *testing.T) {
	data, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(data), func(r rune) bool { return r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	known := map[string]bool{}
	for _, w := range words {
		known[w] = true
	}
	s := &settings{}
	for _, k := range append(s.multiKeys(), s.replicaKeys()...) {
		if !known[k.name] {
			t.Errorf("%s is not in doc.go", k.name)
		}
	}
}

func TestThePromotionBeginsWithTheLibrarysDefaults(t *testing.T) {
	fset, files := libraryFiles(t)
	fn := functions(files)["defaults"]
	if fn == nil {
		t.Fatal("no function defaults")
	}
	got := map[string]string{}
	ast.Inspect(fn, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			var b bytes.Buffer
			if err := format.Node(&b, fset, kv.Value); err != nil {
				t.Fatal(err)
			}
			got[fmt.Sprint(kv.Key)] = b.String()
		}
		return true
	})
	if got["recentModify"] != "5 * time.Minute" || got["accessCount"] != "10" || *defaultPromotion() != (promotion{5 * time.Minute, 10}) {
		t.Errorf("the library has %s and %s; this package %v", got["recentModify"], got["accessCount"], *defaultPromotion())
	}
}

// kebab is the key of a field of S3Config.
func kebab(field string) string {
	for _, initialism := range []string{"SSE", "KMS", "ID"} {
		field = strings.ReplaceAll(field, initialism, initialism[:1]+strings.ToLower(initialism[1:]))
	}
	var b strings.Builder
	for i, r := range field {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func TestEveryFieldOfS3ConfigHasAKeyThatSetsIt(t *testing.T) {
	for field := range reflect.TypeFor[multidb.S3Config]().Fields() {
		name := kebab(field.Name)
		text := map[reflect.Kind]string{reflect.String: "abcd", reflect.Bool: "true", reflect.Int: "17", reflect.Int64: "17000000"}[field.Type.Kind()]
		if field.Type == reflect.TypeFor[time.Duration]() {
			text = "17s"
		}
		s := &settings{}
		d := &decoder{env: func(string) (string, bool) { return "", false }, places: map[string]*yamltoken.Token{}, names: map[string]string{}}
		node, perr := parse("m.yaml", []byte(name+": "+text))
		if perr != nil {
			t.Fatal(perr)
		}
		var only []key
		for _, k := range s3Keys(&s.replica.s3) {
			k.required = false
			only = append(only, k)
			if k.name == name && k.sets != field.Name {
				t.Errorf("%s says that it sets %s", name, k.sets)
			}
		}
		d.mapping(value{node: node}, only, nil)
		if len(d.errs) > 0 {
			t.Errorf("%s: %v", field.Name, joinErrors(d.errs))
			continue
		}
		v := reflect.ValueOf(s.replica.s3)
		for other := range v.Type().Fields() {
			if zero := v.FieldByIndex(other.Index).IsZero(); zero == (other.Name == field.Name) {
				t.Errorf("%s: %s is %v", name, other.Name, v.FieldByIndex(other.Index))
			}
		}
	}
}

// Each line reaches the field of the Manager that it is meant for, with its
// value, and no other one.
func TestEachKeyReachesTheManager(t *testing.T) {
	type check struct{ key, text, field, want string }
	for _, c := range []check{
		{"state-dir", "/s", "stateDir", "/s"},
		{"allow-missing-roots", "true", "missingRoots", "true"},
		{"allow-emptied-volumes", "true", "emptiedVolumes", "true"},
		{"max-hot-databases", "77", "maxHot", "77"},
		{"hot-duration", "77s", "hotDuration", "1m17s"},
		{"hot-promotion", "{recent-modify-threshold: 77s}", "recentModify", "1m17s"},
		{"hot-promotion", "{access-count-threshold: 77}", "accessCount", "77"},
		{"scan-interval", "77s", "scanInterval", "1m17s"},
		{"watch", "false", "watch", "false"},
		{"cold-sync-interval", "77s", "coldSyncInterval", "1m17s"},
		{"cold-sync-mode", "none", "coldSyncMode", "1"},
		{"max-open-databases", "77", "maxOpen", "77"},
		{"max-connections", "77", "maxConns", "77"},
		{"idle-timeout", "77s", "idleTimeout", "1m17s"},
		{"busy-timeout", "77s", "busyTimeout", "1m17s"},
		{"lease-traces", "true", "leaseTraces", "true"},
		{"restore-on-open", "true", "restoreOpen", "true"},
		{"integrity-check", "none", "integrity", "2"},
		{"takeover", "unknown", "takeover", "1"},
		{"upload-concurrency", "77", "uploadConcurrency", "77"},
		{"checkpoint-pages", "77", "checkpointPages", "77"},
		{"max-wal-size", "77MiB", "maxWALSize", "80740352"},
		{"max-total-wal-size", "77MiB", "maxTotalWALSize", "80740352"},
		{"max-total-wal-size", "0", "maxTotalWALSize", "0"},
		{"cache-size", "77MiB", "cacheSize", "80740352"},
		{"cache-size", "0", "cacheSize", "0"},
		{"replica.sync-interval", "7s", "syncInterval", "7s"},
		{"replica.snapshot-interval", "77s", "snapshotInterval", "1m17s"},
		{"replica.retention", "77s", "retention", "1m17s"},
		{"replica.retention-check-interval", "77s", "retentionInterval", "1m17s"},
		{"replica.l0-retention", "77s", "l0Retention", "1m17s"},
	} {
		const doc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template:\n    type: none\n%s"
		name, under := strings.CutPrefix(c.key, "replica.")
		line := "  " + name + ": " + c.text + "\n"
		if under {
			line = "  " + line
		}
		before, after := managerConfig(t, fmt.Sprintf(doc, "")), managerConfig(t, fmt.Sprintf(doc, line))
		if after[c.field] != c.want {
			t.Errorf("%s: %s is %q, not %q", strings.TrimSpace(line), c.field, after[c.field], c.want)
		}
		for field, v := range after {
			if v != before[field] && field != c.field {
				t.Errorf("%s: %s is %q, was %q", strings.TrimSpace(line), field, v, before[field])
			}
		}
	}
}

// managerConfig returns the plain fields of what multidb.New makes of a
// document.
func managerConfig(t *testing.T, doc string) map[string]string {
	t.Helper()
	c, err := Parse("m.yaml", []byte(doc), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	v := reflect.ValueOf(m).Elem().FieldByName("cfg")
	for f := range v.Type().Fields() {
		switch fv := v.FieldByIndex(f.Index); {
		case f.Type == reflect.TypeFor[time.Duration]():
			fields[f.Name] = time.Duration(fv.Int()).String()
		case fv.CanInt():
			fields[f.Name] = fmt.Sprint(fv.Int())
		case fv.CanUint():
			fields[f.Name] = fmt.Sprint(fv.Uint())
		case fv.Kind() == reflect.String:
			fields[f.Name] = fv.String()
		case fv.Kind() == reflect.Bool:
			fields[f.Name] = fmt.Sprint(fv.Bool())
		}
	}
	return fields
}

func TestEveryFieldOfFleetLogConfigHasAKeyThatSetsIt(t *testing.T) {
	for field := range reflect.TypeFor[multidb.FleetLogConfig]().Fields() {
		text := map[reflect.Kind]string{reflect.String: "abcd", reflect.Int64: "17000000"}[field.Type.Kind()]
		if field.Type == reflect.TypeFor[time.Duration]() {
			text = "17s"
		}
		const doc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template: {type: file, dir: /b, path: \"{{database}}\"}\n  fleet-log: {%s}\n"
		before, after := fleetLogOf(t, fmt.Sprintf(doc, "")), fleetLogOf(t, fmt.Sprintf(doc, kebab(field.Name)+": "+text))
		for other := range before.Type().Fields() {
			if same := before.FieldByIndex(other.Index).Equal(after.FieldByIndex(other.Index)); same == (other.Name == field.Name) {
				t.Errorf("%s: %s is %v, was %v", field.Name, other.Name, after.FieldByIndex(other.Index), before.FieldByIndex(other.Index))
			}
		}
	}
}

// fleetLogOf is what multidb.New makes of a document's fleet log.
func fleetLogOf(t *testing.T, doc string) reflect.Value {
	t.Helper()
	c, err := Parse("m.yaml", []byte(doc), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(m).Elem().FieldByName("cfg").FieldByName("fleetLog").Elem()
	if got := v.FieldByName("Path").String(); got != c.FleetLog() {
		t.Errorf("the Manager has the fleet log %q, and the configuration says %q", got, c.FleetLog())
	}
	return v
}
