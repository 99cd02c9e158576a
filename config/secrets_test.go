package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
)

const secret = "hunter2/hunter2+hunter2"

func TestAConfigShowsNoSecretHoweverItIsPrinted(t *testing.T) {
	for name, doc := range map[string]string{
		"s3":  withReplica("type: s3", "bucket: b", "path: x/{{database}}", "access-key-id: "+secret, "secret-access-key: "+secret, "session-token: "+secret),
		"url": withReplica("type: file", "dir: /b", "path: x/{{database}}"),
	} {
		c, err := config.Parse("m.yaml", []byte(doc), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
			for _, v := range []any{c, *c, struct{ C config.Config }{*c}, []*config.Config{c}} {
				if out := fmt.Sprintf(format, v); strings.Contains(out, "hunter2") {
					t.Errorf("%s: %s shows %s", name, format, out)
				}
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "value", *c)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "value", *c)
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("%s: the log shows %s", name, log.String())
		}
	}
}

// Each of these is wrong, and holds the secret: as text in the file, or in a
// variable.
func TestNoErrorShowsASecret(t *testing.T) {
	wrong := []string{
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: SECRET"), // half of the credentials
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: [SECRET]"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: {SECRET: SECRET}"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: {a: SECRET}"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: \"SECRET\\n\""),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: |", "  SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: \"SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: 'SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: \"SECRET\\q\""),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: 'SECRET' x"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: &SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: *SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: !SECRET x"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: SECRET: x"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: x${SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "secret-access-key: ${A SECRET}"),
		withReplica("type: s3", "bucket: b", "path: x", "session-token: SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "sse-customer-key: SECRET"),
		withReplica("type: s3", "bucket: b", "path: x", "endpoint: https://me:SECRET@host"),
		withReplica("type: s3", "bucket: b", "path: x", "endpoint: ftp://SECRET"),
		withReplica("type: url", "url: sftp://me:SECRET@host"),
		withReplica("type: url", "url: gs://me:SECRET@host/x?key=SECRET"),
		withReplica("type: url", "url: 'sftp://me:SECRET@host/x?{{y}}'"),
		withReplica("type: url", "url: SECRET"),
		withReplica("type: url", "url: [sftp://me:SECRET@host]"),
		withReplica("type: url", "url: 'file:///x/{{y}}?SECRET'"),
		// A variable in the wrong place: two lines of the environment swapped.
		withReplica("type: s3", "bucket: ${VARIABLE}", "path: x"),
		withReplica("type: s3", "bucket: b", "path: '{{${VARIABLE}'"),
		withReplica("type: s3", "bucket: b", "path: x", "sse: ${VARIABLE}"),
		withReplica("type: ${VARIABLE}", "bucket: b", "path: x"),
		minimal("scan-interval: ${VARIABLE}"),
		minimal("max-hot-databases: ${VARIABLE}"),
		minimal("max-wal-size: ${VARIABLE}"),
		minimal("enabled: ${VARIABLE}"),
		minimal("log: {level: '${VARIABLE}'}"),
		"multi-db:\n  patterns: ['/a/**/${VARIABLE}']\n  replica-template: {type: none}\n",
	}
	for _, doc := range wrong {
		for name, d := range map[string]string{
			"as text":       strings.ReplaceAll(doc, "SECRET", secret),
			"in a variable": strings.ReplaceAll(doc, "SECRET", "${VARIABLE}"),
		} {
			_, err := config.Parse("m.yaml", []byte(d), env("VARIABLE="+secret))
			if err == nil {
				t.Errorf("%s: no error of\n%s", name, d)
				continue
			}
			for _, out := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
				if strings.Contains(out, "hunter2") {
					t.Errorf("%s: %s\nof\n%s", name, out, d)
				}
			}
		}
	}
}

// The library quotes what it refuses, which changes some characters.
func TestASecretThatALibraryErrorQuotesIsHidden(t *testing.T) {
	const awkward = `hunter2"/\x`
	doc := withReplica("type: s3", "bucket: ${VARIABLE}", "path: x", "access-key-id: a", "secret-access-key: b")
	_, err := config.Parse("m.yaml", []byte(doc), env("VARIABLE="+awkward))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), `"${VARIABLE}"`) {
		t.Errorf("in a variable: %v", err)
	}
	doc = withReplica("type: s3", "bucket: "+secret, "path: x", "access-key-id: a", "secret-access-key: "+secret)
	_, err = config.Parse("m.yaml", []byte(doc), nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("as text: %v", err)
	}
}

func TestAVariableCannotAddAKey(t *testing.T) {
	for _, v := range []string{"x\"\n  state-dir: /evil", "x, dir: /evil", "{a: b}", "[a]", "&a", "# nothing", "${OTHER}", "$$", "null", "true", "5"} {
		c, err := config.Parse("m.yaml", []byte(withReplica("type: file", "dir: /b/${V}", "path: x/{{database}}")), env("V="+v, "OTHER=evil"))
		if strings.Contains(v, "\n") {
			if err == nil || !strings.Contains(err.Error(), "see what V ends in") {
				t.Errorf("%q: %v", v, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", v, err)
			continue
		}
		r, err := c.Replica()
		if err != nil {
			t.Fatal(err)
		}
		db := multidb.Database{ID: "p/d", Path: "/d.db", Vars: []multidb.Var{{Name: "database", Value: "d"}}}
		if got, err := r.(multidb.ReplicaPrefixer).Prefix(db); err != nil || got != "/b/"+v+"/x/d" {
			t.Errorf("%q: prefix %q, %v", v, got, err)
		}
		if c.StateDir() != "" {
			t.Errorf("%q: state dir %q", v, c.StateDir())
		}
	}
}

func TestHowVariablesAreWritten(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{text: "${A}", want: "one"},
		{text: "x${A}y${B}z", want: "xoneytwoz"},
		{text: "$${A}", want: "${A}"},
		{text: "$$$${A}", want: "$${A}"},
		{text: "$$${A}", want: "$one"},
		{text: "$A", want: "$A"},
		{text: "a$", want: "a$"},
		{text: "$ {A}", want: "$ {A}"},
		{text: "${NO:-x}", want: "x"},
		{text: "${EMPTY:-x}", want: "x"},
		{text: "${A:-x}", want: "one"},
		{text: "${NO:-a:-b}", want: "a:-b"},
		{text: "${DOLLAR}", want: "${A}"},
		{text: "${NO}", err: "the variable NO is not set"},
		{text: "${EMPTY}", err: "the variable EMPTY is empty"},
		{text: "${A", err: "${ without a }"},
		{text: "${}", err: "without a variable's name"},
		{text: "${1A}", err: "without a variable's name"},
		{text: "${A B}", err: "without a variable's name"},
		{text: "${A-x}", err: "without a variable's name"},
		{text: "${{database}}", err: "without a variable's name"},
	} {
		doc := strings.Replace(minimal("state-dir: 'TEXT'"), "TEXT", c.text, 1)
		got, err := config.Parse("m.yaml", []byte(doc), env("A=one", "B=two", "EMPTY=", "DOLLAR=${A}"))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v; want %s", c.text, err, c.err)
			}
			continue
		}
		if err != nil || got.StateDir() != c.want {
			t.Errorf("%s: %v, %v; want %q", c.text, got, err, c.want)
		}
	}
}

func TestAKeyIsNotExpanded(t *testing.T) {
	_, err := config.Parse("m.yaml", []byte(minimal("${KEY}: /x")), env("KEY=state-dir"))
	if err == nil || !strings.Contains(err.Error(), `unknown key "${KEY}"`) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	guide, err := os.ReadFile("testdata/multidb.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(guide)
	for _, s := range []string{
		minimal("scan-interval: 5s"), minimal("hot-promotion: {access-count-threshold: 3}"), minimal("log: {level: info}", "max-wal-size: 3MiB"),
		withReplica("type: url", "url: file:///b/{{database}}"), withReplica("type: none"), "multi-db: {enabled: ${X}}", "---\n# x\n", "a: |\n  b\n", "\xff",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc := bytes.ReplaceAll(data, []byte("hunter2"), []byte("x"))
		c, err := config.Parse("m.yaml", doc, func(string) (string, bool) { return secret, true })
		if (c == nil) == (err == nil) {
			t.Fatalf("both or neither: %v, %v", c, err)
		}
		if err != nil {
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("a variable is shown: %v", err)
			}
			return
		}
		opts, err := c.Options()
		if !c.Enabled() {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := multidb.New(opts...); err != nil {
			t.Fatalf("taken by Parse, refused by New: %v", err)
		}
	})
}
