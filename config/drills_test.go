package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const drillDoc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template: {type: file, dir: /b, path: \"{{database}}\"}\n"

func TestTheDrillsOfADocumentReachTheManager(t *testing.T) {
	want := multidb.DrillOptions{PerDay: 500, MaxAge: 720 * time.Hour}
	for field := range reflect.TypeFor[multidb.DrillOptions]().Fields() {
		if reflect.ValueOf(want).FieldByIndex(field.Index).IsZero() {
			t.Errorf("DrillOptions.%s has no key; add one to drillKeys, and to doc.go", field.Name)
		}
	}
	c, err := Parse("m.yaml", []byte(drillDoc+"  drills: {per-day: 500, max-age: 720h}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	got := reflect.ValueOf(m).Elem().FieldByName("cfg").FieldByName("drills").Elem()
	if n, age := got.FieldByName("PerDay").Int(), got.FieldByName("MaxAge").Int(); int(n) != want.PerDay || time.Duration(age) != want.MaxAge {
		t.Errorf("%d a day, %v old", n, time.Duration(age))
	}
}

func TestDrillsThatMakeNoSenseAreRefused(t *testing.T) {
	for line, says := range map[string]string{
		"drills: {}":                          "per-day",
		"drills: {per-day: 0}":                "per-day",
		"drills: {per-day: 1, max-age: 30}":   "max-age",
		"drills: {per-day: 1, often: true}":   "often",
		"drills: 5":                           "drills",
		"drills: {per-day: 1, max-age: -10h}": "max-age",
	} {
		if _, err := Parse("m.yaml", []byte(drillDoc+"  "+line+"\n"), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
	none := strings.Replace(drillDoc, "{type: file, dir: /b, path: \"{{database}}\"}", "{type: none}", 1) + "  drills: {per-day: 1}\n"
	if _, err := Parse("m.yaml", []byte(none), nil); err == nil || !strings.Contains(err.Error(), "drills") {
		t.Errorf("drills without a replica: %v", err)
	}
}
