package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

const policiesDoc = "multi-db:\n  patterns: [\"/data/{{plan}}/{{database}}.db\"]\n  replica-template: {type: none}\n  policies:\n%s"

// policiesOf returns what the function of a document says of the databases with these IDs.
func policiesOf(t *testing.T, lines string, ids ...multidb.ID) []multidb.Policy {
	t.Helper()
	c, err := Parse("m.yaml", fmt.Appendf(nil, policiesDoc, lines), nil)
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
	fn := reflect.ValueOf(m).Elem().FieldByName("cfg").FieldByName("policyOf")
	if fn.IsNil() {
		t.Fatal("no policy reaches the Manager")
	}
	s := &settings{}
	d := &decoder{env: func(string) (string, bool) { return "", false }}
	root, perr := parse("m.yaml", fmt.Appendf(nil, policiesDoc, lines))
	if perr != nil {
		t.Fatal(perr)
	}
	for _, e := range first(t, d, value{node: root}) {
		if e.key.Value == "policies" {
			s.readPolicies(d, e)
		}
	}
	var all []multidb.Policy
	for _, id := range ids {
		all = append(all, policyOf(s.rules)(multidb.Database{ID: id}))
	}
	return all
}

// first are the keys under multi-db.
func first(t *testing.T, d *decoder, root value) (all []value) {
	t.Helper()
	top, ok := d.entries(root)
	if !ok || len(top) != 1 {
		t.Fatal("not one key at the top")
	}
	under, _ := d.entries(value{node: top[0].Value})
	for _, e := range under {
		all = append(all, value{node: e.Value, key: e.Key.GetToken(), path: "policies"})
	}
	return all
}

func TestEveryFieldOfPolicyHasAKeyThatSetsIt(t *testing.T) {
	for field := range reflect.TypeFor[multidb.Policy]().Fields() {
		text := map[reflect.Kind]string{reflect.Int: "-17", reflect.Uint8: "never"}[field.Type.Kind()]
		if field.Type == reflect.TypeFor[time.Duration]() {
			text = "77s"
		}
		got := policiesOf(t, "  - match: \"*/*\"\n    "+kebab(field.Name)+": "+text+"\n", "a/b")[0]
		for other := range reflect.TypeFor[multidb.Policy]().Fields() {
			if zero := reflect.ValueOf(got).FieldByIndex(other.Index).IsZero(); zero == (other.Name == field.Name) {
				t.Errorf("%s: %s is %v", field.Name, other.Name, reflect.ValueOf(got).FieldByIndex(other.Index))
			}
		}
	}
}

func TestTheFirstPolicyThatMatchesCounts(t *testing.T) {
	got := policiesOf(t, `  - match: "paying/vip"
    hot: always
  - match: "paying/*"
    sync-interval: 500ms
    retention: 720h
  - {match: "free/old?", hot: never}
  - match: free/x
  - match: "free/*"
    evict-priority: -1
`, "paying/vip", "paying/a", "free/old1", "free/x", "free/other", "else/a")
	want := []multidb.Policy{
		{Hot: multidb.HotAlways}, {SyncInterval: 500 * time.Millisecond, Retention: 720 * time.Hour},
		{Hot: multidb.HotNever}, {}, {EvictPriority: -1}, {},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsWrongWithAPolicyIsSaidWithItsPlace(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"no list", "    match: \"a/*\"\n", `policies: want a list, not a mapping; write - match: "paying/*" below it`},
		{"an empty list", "    []\n", "policies: it has no policy"},
		{"text", "  - \"a/*\"\n", "m.yaml:5:5: multi-db.policies: want keys with values, not text"},
		{"no match", "  - hot: never\n", "m.yaml:5:5: multi-db.policies: match is missing"},
		{"an empty match", "  - match: \"\"\n", "m.yaml:5:12: multi-db.policies.match: it is empty"},
		{"an unknown key", "  - match: \"a/*\"\n    sync_intervall: 1s\n", `m.yaml:6:5: multi-db.policies: unknown key "sync_intervall"; did you mean sync-interval?`},
		{"a duration without a unit", "  - match: \"a/*\"\n    retention: 30\n", "m.yaml:6:16: multi-db.policies.retention: 30 has no unit"},
		{"a negative duration", "  - {match: \"a/*\", retention: -1h}\n", `"-1h" is negative`},
		{"a duration of nothing", "  - {match: \"a/*\", sync-interval: 0s}\n", `"0s" is not above zero`},
		{"a heat that is none", "  - {match: \"a/*\", hot: sometimes}\n", `policies.hot: "sometimes" is not one of auto, always, never`},
		{"a boolean for the heat", "  - {match: \"a/*\", hot: true}\n", "want one of auto, always, never, not true or false"},
		{"a priority that is no number", "  - {match: \"a/*\", evict-priority: high}\n", `"high" is text`},
		{"a broken pattern", "  - match: \"a/[b\"\n", `m.yaml:5:12: multi-db.policies.match: "a/[b" is not a pattern`},
		{"too few parts", "  - match: \"paying*\"\n", `m.yaml:5:12: multi-db.policies.match: "paying*" matches no database: it has 1 parts`},
		{"too many parts", "  - match: \"a/b/*\"\n", "it has 3 parts"},
		{"the same twice", "  - match: \"a/*\"\n  - match: \"b/*\"\n  - match: \"a/*\"\n    hot: never\n", `m.yaml:7:12: multi-db.policies.match: "a/*" a second time; the first, in line 5, counts`},
		{"two intervals that do not fit", "  - match: \"b/*\"\n  - match: \"a/*\"\n    sync-interval: 1m\n    cold-sync-interval: 2s\n", "m.yaml:6:5: multi-db.policies: cold-sync-interval: 2s is shorter than the sync interval of 1m0s"},
		{"an interval that does not fit the common one", "  - match: \"a/*\"\n    cold-sync-interval: 2ms\n", "2ms is shorter than the sync interval of 1s"},
		{"a second list", "  - match: \"a/*\"\n  policies: []\n", "policies: a second time"},
		{"a key of a policy beside the list", "  - match: \"a/*\"\n  match: x\n", `m.yaml:6:3: multi-db: unknown key "match"`},
	} {
		_, err := Parse("m.yaml", fmt.Appendf(nil, policiesDoc, c.lines), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestTheMatchBesideAPatternThatCapturesNothingMayHaveAnyNumberOfParts: an ID is a path then.
func TestTheMatchBesideAPatternThatCapturesNothingMayHaveAnyNumberOfParts(t *testing.T) {
	doc := strings.Replace(fmt.Sprintf(policiesDoc, "  - match: \"a/b/*\"\n"), "{{plan}}/{{database}}.db", "app.db", 1)
	if _, err := Parse("m.yaml", []byte(doc), nil); err != nil {
		t.Error(err)
	}
}
