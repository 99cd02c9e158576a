package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
)

const pragmaDoc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template: {type: none}\n"

func TestThePragmasOfADocumentReachTheManager(t *testing.T) {
	env := func(name string) (string, bool) { return "memory", name == "STORE" }
	c, err := Parse("m.yaml", []byte(pragmaDoc+"  pragmas: {foreign_keys: on, Cache_Size: -8000, trusted_schema: false, temp_store: \"${STORE}\"}\n"), env)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	// The program has the last word.
	m, err := multidb.New(append(opts, multidb.WithPragma("cache_size", "-9000"))...)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	all := reflect.ValueOf(m).Elem().FieldByName("cfg").FieldByName("pragmas")
	for i := range all.Len() {
		got[all.Index(i).FieldByName("Name").String()] = all.Index(i).FieldByName("Value").String()
	}
	if want := "map[cache_size:-9000 foreign_keys:on temp_store:memory trusted_schema:false]"; fmt.Sprint(got) != want || all.Len() != 4 {
		t.Errorf("%v", got)
	}
}

func TestAPragmaThatCannotBeSetIsNamedWithItsPlace(t *testing.T) {
	for line, says := range map[string]string{
		"pragmas: {journal_mode: delete}":                "pragmas.journal_mode: journal_mode cannot be set",
		"pragmas: {busy_timeout: 5}":                     "what busy-timeout sets",
		"pragmas: {foreign_key: on}":                     "did you mean foreign_keys?",
		"pragmas: {foreign_keys: onn}":                   "want on, off",
		"pragmas: {foreign_keys: [on]}":                  "want on, off or a number, not a list",
		"pragmas: {foreign_keys: }":                      "it has no value",
		"pragmas: {foreign_keys: on, Foreign_Keys: off}": "a second time",
		"pragmas: on":                                    "want keys with values",
		"pragmas: {cache_size: 1.5}":                     "a decimal number",
	} {
		if _, err := Parse("m.yaml", []byte(pragmaDoc+"  "+line+"\n"), nil); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "m.yaml:4") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
