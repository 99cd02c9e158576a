package main

import (
	"os"
	"strings"
	"testing"
)

func TestAnOperatorIsToldKeysAndVerbsAndNotTheNamesOfGo(t *testing.T) {
	for said, want := range map[string]string{
		"Undelete it, or Erase it before another one is made": "undelete it, or erase it before another one is made",
		"TakeOver says that the prefix is this one's":         "takeover says that the prefix is this one's",
		"(WithRestoreOnOpen, or Restore)":                     "(restore-on-open, or Restore)",
		"open /data/Adopt/x.db":                               "open /data/Adopt/x.db",
	} {
		if got := words(said); got != want {
			t.Errorf("%q is said as %q, want %q", said, got, want)
		}
	}
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	if err := os.RemoveAll(f.root); err != nil {
		t.Fatal(err)
	}
	p := invoke(t, nil, "replicate", "-config", cfg).start().want(1)
	if said := p.stderr.String(); !strings.Contains(said, "allow-missing-roots") && !strings.Contains(said, "state-dir") || strings.Contains(said, "With") {
		t.Errorf("it says: %s", said)
	}
}
