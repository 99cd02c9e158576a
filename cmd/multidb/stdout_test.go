package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// large makes the first database larger than any pipe's buffer.
func (f *fleet) large(t *testing.T) {
	t.Helper()
	write(t, f.path(f.ids[0]), "CREATE TABLE large (v); INSERT INTO large VALUES (randomblob(4000000))")
}

func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}
}

func TestADatabaseGoesToStandardOutputAsItIsRestored(t *testing.T) {
	f := newFleet(t, 1, 1)
	f.large(t)
	replica, tmp, out := newDir(t, f), t.TempDir(), filepath.Join(t.TempDir(), "out.db")
	invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", out).start().want(0)
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	p := invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-tmp", tmp).start().want(0, "wrote project0/db0 to standard output")
	if got := p.stdout.Bytes(); len(want) < 4_000_000 || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want the %d of a file", len(got), len(want))
	}
	if exists(filepath.Join(p.cmd.Dir, "-")) {
		t.Error("there is a file called -")
	}
	leavesNothing(t, tmp)
	if p := invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-quiet").start().want(0); p.stderr.Len() > 0 {
		t.Errorf("with -quiet: %s", &p.stderr)
	}
	invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-json").start().want(2, "excludes -json")
	invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "x", "-tmp", tmp).start().want(2, "-tmp is for")
}

func TestNothingOfADamagedDatabaseGoesToStandardOutput(t *testing.T) {
	f := newFleet(t, 1, 1)
	f.large(t)
	replica, tmp := newDir(t, f), t.TempDir()
	names, err := filepath.Glob(filepath.Join(replica, "litestream", "project0", "db0", "ltx", "*", "*.ltx"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1 // after much that is good
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-tmp", tmp).start().want(1, "project0/db0")
	if p.stdout.Len() > 0 {
		t.Errorf("%d bytes", p.stdout.Len())
	}
	leavesNothing(t, tmp)
}

func TestHalfADatabaseIsAFailure(t *testing.T) {
	f := newFleet(t, 1, 1)
	f.large(t)
	replica := newDir(t, f)
	for name, tc := range map[string]struct {
		end  func(p *process, out io.Closer)
		code int
		says string
	}{
		"the reader goes":                     {func(_ *process, out io.Closer) { _ = out.Close() }, 1, "the reader of standard output has gone"},
		"it is told to end, and nobody reads": {func(p *process, _ io.Closer) { p.signal(syscall.SIGTERM) }, 143, "interrupted by SIGTERM"},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			p := invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-tmp", tmp)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p.cmd.Stdout = w
			p.start()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			tc.end(p, r)
			p.want(tc.code, tc.says)
			leavesNothing(t, tmp)
		})
	}
}
