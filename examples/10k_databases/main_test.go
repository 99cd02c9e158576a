package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/examples/internal/process"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if process.Wanted() {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestASampleComesBackFromTheEmbeddedS3AfterTheDuration(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-n", "150", "-s3", "-duration", "2s", "-active", "40")
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &p.Stdout, &p.Stderr)
	}
	out := p.Stdout.String()
	for _, want := range []string{
		`(?m)^Databases    \[#{40}\] 150 of 150$`, `(?m)^First copies \[#{40}\] 150 of 150$`,
		`Discovery found 150 databases`, `(?m)^ +[0-9]+s  150 dbs: .* hot, .*lag p50 .*requests, 0 errors$`,
		`(?m)^  written   [0-9]+ transactions to `, `0 resyncs, .* 0 failed runs`,
		`Restored a sample of 50 databases from S3 \(25 of them written to\).*: 50 equal, 0 not`, `(?m)^Closed in `,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("there are terminal codes on a pipe")
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestCtrlCIsTheUsualEndWithoutADuration(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-n", "120", "-active", "40")
	p.Stdout.Await(t, "s  120 dbs: ")
	p.Signal(os.Interrupt)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.Stderr)
	}
	if out := p.Stdout.String(); !strings.Contains(out, "\nIn all\n") || !strings.Contains(out, "Closed in ") {
		t.Errorf("there is no closing summary:\n%s", out)
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestCtrlCBeforeTheDurationIsReported(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"Databases ", "Discovery found", "s  120 dbs: "} {
		p := process.Start(t, nil, "-n", "120", "-s3", "-duration", "1h")
		p.Stdout.Await(t, moment)
		p.Signal(os.Interrupt)
		if code := p.Wait(); code != 130 {
			t.Errorf("after %q: exit code %d, want 130\n%s", moment, code, &p.Stderr)
		}
		if left := p.Left(); len(left) > 0 {
			t.Errorf("after %q: it left %v", moment, left)
		}
	}
}

func TestDirKeepsTheDatabasesForTheNextRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept here")
	for i, want := range []string{"30 of them made now", "10 of them made now"} {
		n := []string{"30", "40"}[i]
		p := process.Start(t, nil, "-n", n, "-s3", "-duration", "500ms", "-dir", dir)
		code := p.Wait()
		if out := p.Stdout.String(); code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, and no %q in:\n%s%s", code, want, out, &p.Stderr)
		}
	}
	tree := tenant.Tree{Root: dir, Each: perProject}
	for i := range 40 {
		if _, err := tenant.DigestedFile(t.Context(), tree.Path(i)); err != nil {
			t.Errorf("%s: %v", tree.ID(i), err)
		}
	}
}

func TestABadEnvironmentGivesOneLine(t *testing.T) {
	t.Parallel()
	p := process.Start(t, []string{"LITESTREAM_S3_BUCKET=b", "LITESTREAM_S3_ENDPOINT=http://127.0.0.1:1",
		"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret"}, "-s3", "-n", "1")
	code, text := p.Wait(), p.Stderr.String()
	if code != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "127.0.0.1:1") || len(p.Left()) > 0 {
		t.Errorf("exit code %d, stderr %q, left %v", code, text, p.Left())
	}
}

func TestEveryCopyIsAWholeDatabaseAndAnExistingOneIsLeftAlone(t *testing.T) {
	tree := tenant.Tree{Root: t.TempDir(), Each: 10}
	if err := os.MkdirAll(filepath.Dir(tree.Path(7)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tree.Path(7), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := makeFleet(t.Context(), tree, 25, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "24 of them made now") {
		t.Errorf("%s", &out)
	}
	var first tenant.Digest // which may have no rows: what is in a tenant is random
	for i := range 25 {
		if i == 7 {
			if b, err := os.ReadFile(tree.Path(i)); err != nil || string(b) != "mine" {
				t.Errorf("%q, %v", b, err)
			}
			continue
		}
		d, err := tenant.DigestedFile(t.Context(), tree.Path(i))
		if i == 0 {
			first = d
		}
		if err != nil || d.Tables == 0 || d != first {
			t.Errorf("%s: %+v, %v; the first one: %+v", tree.ID(i), d, err, first)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := makeFleet(ctx, tree, 25, &out); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAWrongCommandLineIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {"-active", "0"}, {"-duration", "-1s"}, {"-nosuch"}, {"extra"}} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), args, &stdout, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}
