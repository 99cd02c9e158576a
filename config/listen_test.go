package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

const listenDoc = "multi-db:\n  patterns: [\"/data/{{database}}.db\"]\n  replica-template: {type: none}\n"

func TestEveryFieldOfListenHasAKeyThatSetsIt(t *testing.T) {
	c, err := Parse("m.yaml", []byte(listenDoc+`  listen:
    address: ":9460"
    token-file: ${DIR}/token
    verbs: [sync, restore]
    restore-dir: /restored
    hosts: [ops.example.com, ops]
    title: eu-1
    max-lag: 5m
`), func(name string) (string, bool) { return "/etc/multidb", name == "DIR" })
	if err != nil {
		t.Fatal(err)
	}
	got := c.Listen()
	want := &Listen{":9460", "/etc/multidb/token", []string{"sync", "restore"}, "/restored", []string{"ops.example.com", "ops"}, "eu-1", 5 * time.Minute}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got.Verbs[0] = "adopt"
	if c.Listen().Verbs[0] != "sync" {
		t.Error("what a caller does with it changes the configuration")
	}
	if c, err = Parse("m.yaml", []byte(listenDoc), nil); err != nil || c.Listen() != nil {
		t.Errorf("without the key: %v, %v", c.Listen(), err)
	}
	for _, k := range listenKeys(&Listen{}) {
		if !strings.Contains(readDoc(t), "\n//	  "+k.name+" ") {
			t.Errorf("%s is not in doc.go", k.name)
		}
	}
}

func TestAListenThatMakesNoSenseIsRefused(t *testing.T) {
	for line, says := range map[string]string{
		"{}":                                "address",
		"127.0.0.1:9460":                    "keys with values",
		"{address: 9460}":                   "quote",
		"{address: '9460'}":                 "127.0.0.1:9460",
		"{address: 'localhost:'}":           "host and a port",
		"{address: ':1', verbs: sync}":      "- sync",
		"{address: ':1', verbs: [erase]}":   "sync, evict, restore, adopt, takeover",
		"{address: ':1', verbs: [restore]}": "restore-dir",
		"{address: ':1', verbs: [restore], restore-dir: there}": "absolute",
		"{address: ':1', max-lag: 0s}":                          "max-lag",
		"{address: ':1', token: secret}":                        "token-file",
	} {
		if _, err := Parse("m.yaml", []byte(listenDoc+"  listen: "+line+"\n"), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want what says %q", line, err, says)
		}
	}
}

func readDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
