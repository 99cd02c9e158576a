package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestEveryExitCodeIsTheOneThatIsDocumented(t *testing.T) {
	f := newFleet(t, 1, 2)
	replica := newDir(t, f)
	cfg := f.configure(t, replica)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	invalid, empty := file("invalid.yaml", "multi-db: [", 0o600), file("empty.yaml", "", 0o600)
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	disabled := file("disabled.yaml", strings.Replace(string(text), "multi-db:", "multi-db:\n  enabled: false", 1), 0o600)
	away := newStore(t).env
	away = append(away[:len(away)-1:len(away)-1], "AWS_ENDPOINT_URL_S3=http://127.0.0.1:1", "AWS_MAX_ATTEMPTS=1")
	missing := filepath.Join(dir, "missing.yaml")
	for _, tc := range []struct {
		name string
		code int
		args []string
		says string
	}{
		{"all is well", 0, []string{"ls", "-dir", replica}, ""},
		{"a configuration is missing", 2, []string{"ls", "-config", missing}, "no such file"},
		{"a configuration is missing", 2, []string{"replicate", "-config", missing}, "no such file"},
		{"a configuration is missing", 2, []string{"config", "check", missing}, "no such file"},
		{"a configuration is missing", 2, []string{"evict", "a", "-config", missing}, "no such file"},
		{"a configuration is no file", 2, []string{"status", "-config", dir}, "it is a directory"},
		{"a configuration is no YAML", 2, []string{"verify", "-config", invalid}, "invalid.yaml:"},
		{"a configuration is empty", 2, []string{"restore", "x", "-o", "y", "-config", empty}, "the file is empty"},
		{"a configuration is disabled", 1, []string{"replicate", "-config", disabled}, "enabled is false"},
		{"an empty -path", 2, []string{"ls", "-dir", replica, "-path", ""}, "-path is empty"},
		{"an empty -path", 2, []string{"restore-all", "-dir", replica, "-path=", "-o", "out"}, "-path is empty"},
		{"an empty -bucket", 2, []string{"ls", "-bucket", ""}, "-bucket is empty"},
		{"an empty -config", 2, []string{"status", "-config", ""}, "-config is empty"},
		{"an empty pattern", 2, []string{"verify", "-dir", replica, ""}, "an argument is empty"},
		{"an empty pattern", 2, []string{"each", "-name", "n", "-sql", "f", "-pattern", ""}, "-pattern is empty"},
		{"a -path that matches nothing", 1, []string{"ls", "-dir", replica, "-path", "litstream/{{project}}/{{database}}"}, "no database at"},
		{"a -path that matches nothing", 1, []string{"status", "-dir", replica, "-path", "litstream"}, "-path is a template"},
		{"a -path that matches nothing", 1, []string{"unpack", "-all", "-dir", replica, "-path", "litstream"}, "no database at"},
		{"a -path that matches nothing", 1, []string{"verify", "-dir", replica, "-path", "litstream"}, "no database at"},
		{"a -path that matches nothing", 1, []string{"restore-all", "-dir", replica, "-path", "litstream", "-o", dir}, "no database at"},
		{"a -path that matches nothing", 1, []string{"restore", "project0/db0", "-dir", replica, "-path", "litstream/{{project}}/{{database}}", "-o", "x"}, "no database"},
		{"a directory that is missing", 1, []string{"ls", "-dir", filepath.Join(dir, "missing")}, "no such file"},
		{"an ID that is not known", 1, []string{"restore", "project0/bd0", "-dir", replica, "-o", "x"}, "the nearest"},
		{"a pattern that matches nothing", 1, []string{"ls", "-dir", replica, "project9/*"}, "no database matches"},
		{"the store is down", 1, []string{"ls", "-bucket", "fleet"}, "127.0.0.1:1"},
		{"the store is down", 1, []string{"restore", "project0/db0", "-bucket", "fleet", "-o", "x"}, "127.0.0.1:1"},
		{"nothing runs", 1, []string{"remove", "project0/db0", "-config", cfg}, "no multidb replicate is running"},
		{"a file of SQL is missing", 2, []string{"each", "-name", "n", "-sql", missing, "-config", cfg}, "no such file"},
	} {
		t.Run(tc.name+": "+tc.args[0], func(t *testing.T) {
			p := invoke(t, away, tc.args...).start().want(tc.code, tc.says)
			if tc.code != 0 && p.stdout.Len() > 0 {
				t.Errorf("standard output: %s", &p.stdout)
			}
		})
	}
	t.Run("some databases are not well", func(t *testing.T) {
		broken := t.TempDir()
		f.shipTo(t, broken)
		names, err := filepath.Glob(filepath.Join(broken, "litestream", "project0", "db0", "ltx", "*", "*.ltx"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			if err := os.Truncate(name, 150); err != nil {
				t.Fatal(err)
			}
		}
		invoke(t, nil, "verify", "-dir", broken).start().want(3, "project0/db0")
	})
}

func TestAConfigurationOfWhichNothingIsReplicatedYetIsNoFailure(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	invoke(t, nil, "ls", "-offline", "-config", cfg).start().want(0, "there is no database at the replica of")
}

func TestAnInterruptedCommandSaysWhatInterruptedIt(t *testing.T) {
	f, s := newFleet(t, 1, 2), newStore(t)
	f.ship(t, s.replica(t))
	for sig, says := range map[syscall.Signal]string{syscall.SIGINT: "interrupted", syscall.SIGTERM: "interrupted by SIGTERM"} {
		asked, free := make(chan struct{}), make(chan struct{})
		var once sync.Once
		s.setHold(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".ltx") {
				once.Do(func() { close(asked) })
				<-free
			}
			return true
		})
		p := invoke(t, s.env, "restore", "project0/db0", "-bucket", "fleet", "-path", template, "-o", "x.db").start()
		<-asked
		p.signal(sig)
		p.want(128+int(sig), "multidb: "+says+"\n")
		close(free)
	}
}

func TestAConnectionThatBreaksIsNotTakenForAReaderThatHasGone(t *testing.T) {
	broken := &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	for want, err := range map[int]error{
		exitFailed: fmt.Errorf("restore: %w", broken),
		exitOK:     fmt.Errorf("%w: %w", errReaderGone, syscall.EPIPE),
	} {
		var said strings.Builder
		e := &env{stderr: &said}
		if got := e.exit(t.Context(), err); got != want {
			t.Errorf("%v ends with %d, want %d", err, got, want)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := (output{w}).Write([]byte("x")); !errors.Is(err, errReaderGone) {
		t.Errorf("nobody reads: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
