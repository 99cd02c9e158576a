package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// closer is a Manager with that many databases that are not durable.
type closer int

func (c closer) Close(context.Context) error {
	var errs []error
	for i := range int(c) {
		errs = append(errs, fmt.Errorf("db%d: %w", i, multidb.ErrNotDurable))
	}
	return errors.Join(errs...)
}

func TestTheExitCodeSaysHowItEnded(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx    context.Context
		err    error
		code   int
		stderr string
	}{
		{t.Context(), nil, OK, ""},
		{t.Context(), errors.New("a"), Failed, "x: a\n"},
		{t.Context(), errors.Join(errors.New("a"), errors.New("b")), Failed, "x: a\nx: b\n"},
		{interrupted, nil, Interrupted, "x: interrupted\n"},
		{interrupted, fmt.Errorf("sync: %w", context.Canceled), Interrupted, "x: interrupted\n"},
		{interrupted, errors.New("a"), Failed, "x: a\n"},
		{interrupted, errors.Join(context.Canceled, Close(closer(2), time.Second)), Interrupted,
			"x: interrupted\nx: 2 databases may have commits that are not at the replica; the first error: db0: not durable yet\n"},
		{t.Context(), Close(closer(1), time.Second), Failed, "x: db0: not durable yet\n"},
		{t.Context(), Close(closer(0), time.Second), OK, ""},
	} {
		var stderr strings.Builder
		if code := Exit(c.ctx, "x", &stderr, c.err); code != c.code || stderr.String() != c.stderr {
			t.Errorf("%v: code %d, stderr %q", c.err, code, &stderr)
		}
	}
}

func TestArgumentsThatAreNoFlagsAreRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		done bool
	}{
		{nil, OK, false}, {[]string{"-n", "2"}, OK, false}, {[]string{"-h"}, OK, true},
		{[]string{"-x"}, Usage, true}, {[]string{"2"}, Usage, true},
	} {
		var stderr strings.Builder
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.Int("n", 1, "")
		if code, done := Parse(fs, c.args, &stderr); code != c.code || done != c.done {
			t.Errorf("%v: %d, %v", c.args, code, done)
		}
	}
}

func TestOnlyATemporaryDirectoryIsRemoved(t *testing.T) {
	dir, done, err := Work("", "multidb-test-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	named := filepath.Join(t.TempDir(), "a", "b")
	if dir, done, err = Work(named, ""); err != nil || dir != named {
		t.Fatalf("%s, %v", dir, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(named); err != nil {
		t.Error(err)
	}
}
