package main

import (
	"os"
	"regexp"
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

func TestEveryRoundMakesDatabasesHotAndLetsThemGoCold(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"-interval", "1500ms"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	out := stdout.String()
	for _, want := range []string{
		`Discovery found 100 of them`, `Round 3 of 3: 40 databases`,
		`hot 30, warm 10, cold  60`, `hot  0, warm  0, cold 100`, `20 open`,
		`databases +100 +0 hot, 0 warm, 100 cold now`,
		`tiers +120 promotions, 120 demotions`, `[0-9]+ opens, [0-9]+ hits, [1-9][0-9]* evictions`, `memory +[0-9.]+ MB Go`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
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
