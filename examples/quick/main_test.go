package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/examples/internal/process"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if process.Wanted() {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestARoundMakesDatabasesHotAndLetsThemGoCold(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-rounds", "1") // at full length: a slow machine needs it
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &p.Stdout, &p.Stderr)
	}
	out := p.Stdout.String()
	for _, want := range []string{
		`Discovery found 100 of them`, `Round 1 of 1: 40 databases`, `hot  0, warm  0, cold 100`, `20 open`,
		`databases +100 +0 hot, 0 warm, 100 cold now`, `tiers +40 promotions, 40 demotions`,
		`pool +[0-9]+ opens, [0-9]+ hits, [1-9][0-9]* evictions`, `memory +[0-9.]+ MB Go`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	most := 0
	for _, m := range regexp.MustCompile(`(?m)hot +([0-9]+), warm`).FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	if most == 0 || most > maxHot {
		t.Errorf("%d hot at most, want 1 to %d:\n%s", most, maxHot, out)
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAnInterruptInTheMiddleCleansUp(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-rounds", "9")
	p.Stdout.Await(t, "Round 1 of 9")
	p.Signal(os.Interrupt)
	if code := p.Wait(); code != 130 || len(p.Left()) > 0 {
		t.Errorf("exit code %d, left %v\n%s", code, p.Left(), &p.Stderr)
	}
}

func TestAWrongCommandLineIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-interval", "1ms"}, {"-nosuch"}, {"extra"}} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), args, &stdout, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}
