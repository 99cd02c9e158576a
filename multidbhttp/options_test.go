package multidbhttp

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

func TestWrongOptionsAreRefusedWithWhatToWrite(t *testing.T) {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Static()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Token: "short"}, "openssl rand -hex 16"},
		{Options{Token: strings.Repeat("x", 20) + "\n"}, "line end"},
		{Options{Base: "ops"}, `"/ops/multidb"`},
		{Options{Base: "/ops/"}, `"/ops/multidb"`},
		{Options{Base: "//example.com"}, `"/ops/multidb"`},
		{Options{MaxLag: -time.Second}, "MaxLag"},
		{Options{Hosts: []string{"ops.example.com:80"}}, "without a port"},
		{Options{Verbs: []Verb{"sink"}}, "sync, evict, restore, adopt, takeover"},
		{Options{Verbs: []Verb{VerbRestore}}, "RestoreDir"},
		{Options{Verbs: []Verb{VerbRestore}, RestoreDir: "here"}, "absolute"},
		{Options{Prices: &Prices{Put: math.NaN()}}, "USD per 1,000"},
	} {
		if _, err := Handler(m, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want what says %q", c.opt, err, c.want)
		}
	}
	if _, err := Handler(nil, Options{}); err == nil {
		t.Error("no Manager is no error")
	}
	hosts := []string{"OPS.example.com"}
	if _, err := Handler(m, Options{Hosts: hosts}); err != nil || hosts[0] != "OPS.example.com" {
		t.Errorf("%v; the caller's hosts are %q", err, hosts)
	}
}

func TestVerbsAreReadAsTheyAreWritten(t *testing.T) {
	got, err := ParseVerbs(" sync, takeover,")
	if want := []Verb{VerbSync, VerbTakeOver}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := ParseVerbs("sync,erase"); err == nil || !strings.Contains(err.Error(), `"erase"`) {
		t.Errorf("got %v", err)
	}
}

// escape encodes a parameter of a URL.
func escape(s string) string { return url.QueryEscape(s) }
