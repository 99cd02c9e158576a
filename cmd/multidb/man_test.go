package main

import (
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheManualHasEveryCommandAndFlag(t *testing.T) {
	page := manual(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	if !strings.HasPrefix(page, ".Dd January 31, 2026\n.Dt MULTIDB 1\n.Os\n") {
		t.Errorf("it begins with %.60q", page)
	}
	_, list, _ := strings.Cut(page, "\n.Sh COMMANDS\n")
	list, _, _ = strings.Cut(list, "\n.Sh ")
	sections := strings.Split("\n"+list, "\n.Ss ")[1:]
	all := commands()
	if len(sections) != len(all) {
		t.Fatalf("%d sections for %d commands", len(sections), len(all))
	}
	for i, c := range all {
		usage, text, _ := strings.Cut(sections[i], "\n")
		if usage != roff(c.usage()) || !strings.Contains(strings.ToLower(text), strings.ToLower(roff(c.short))) {
			t.Errorf("%s: section %d is %q", c.name, i, usage)
		}
		for word := range strings.FieldsSeq(c.long) {
			if !strings.Contains(text, strings.TrimPrefix(roff(word), `\&`)) { // which only a line needs
				t.Errorf("%s: %q of its explanation is missing", c.name, word)
			}
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(fs)
		flags := 0
		fs.VisitAll(func(f *flag.Flag) {
			flags++
			if !regexp.MustCompile(`(?m)^\.It Fl ` + regexp.QuoteMeta(roff(f.Name)) + `( Ar \S+)?$`).MatchString(text) {
				t.Errorf("%s: -%s is missing", c.name, f.Name)
			}
		})
		if n := strings.Count("\n"+text, "\n.It "); n != flags {
			t.Errorf("%s: %d flags, of %d", c.name, n, flags)
		}
	}
}

func TestNoTextOfTheManualIsTakenForARequest(t *testing.T) {
	known := []string{"Dd", "Dt", "Os", "Sh", "Nm", "Nd", "Ar", "Op", "Ss", "Pp", "Bd", "Ed", "Bl", "It", "El", "Xr"}
	open := 0
	for line := range strings.Lines(manual(time.Now())) {
		request, isRequest := strings.CutPrefix(line, ".")
		if isRequest && !slices.Contains(known, strings.Fields(request + " ?")[0]) || strings.HasPrefix(line, "'") || strings.TrimSpace(line) == "" {
			t.Errorf("%q", line)
		}
		switch {
		case strings.HasPrefix(line, ".Bd") || strings.HasPrefix(line, ".Bl"):
			open++
		case strings.HasPrefix(line, ".Ed") || strings.HasPrefix(line, ".El"):
			open--
		}
	}
	if open != 0 {
		t.Errorf("%d displays and lists are not closed", open)
	}
	if got, want := roff(`.so \fB-x …`), `\&.so \efB\-x \[u2026]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	invoke(t, nil, "man").start().want(0, "")
	invoke(t, nil, "man", "restore").start().want(2, `unexpected argument "restore"`)
}
