package watch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inNamespace, in the environment, says that the test binary runs in a user namespace
// of its own, where it may lower the limit of watches.
const inNamespace = "MULTIDB_WATCH_NAMESPACE"

// listing is a Handler whose Look lists the directory. It says where it saw a file.
type listing struct {
	*recorder
	seen chan string // directories
}

func (l *listing) Name(path string, op Op) {
	if op == Created {
		l.seen <- filepath.Dir(path)
	}
}

func (l *listing) Look(dir string, since Since) (Since, bool) {
	names, err := os.ReadDir(dir)
	if err == nil && len(names) > 0 {
		l.seen <- dir
	}
	return Since{Stamp: 1, Moved: true}, err == nil
}

// TestWhereTheKernelHasNoWatchLeftNothingIsMissed says why directories are also looked
// at: inotify has a limit for each user, which all programs share, and a fleet may have
// more directories than that. Without poll.go a change in the directories beyond the
// limit would be seen only by the next scan.
func TestWhereTheKernelHasNoWatchLeftNothingIsMissed(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20s")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err != nil && !errors.As(err, &exit):
			t.Skipf("no user namespace: %v", err)
		case err != nil:
			t.Errorf("in a user namespace: %v\n%s", err, out)
		case strings.Contains(string(out), "--- SKIP"):
			t.Skipf("in a user namespace:\n%s", out)
		}
		return
	}

	const limit, dirs = 3, 5
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("3"), 0); err != nil {
		t.Skip(err)
	}
	h := &listing{recorder: &recorder{}, seen: make(chan string, 1000)}
	h.w = New(Open, h)
	stop := start(t, h.w)
	defer stop()
	polled, want := 0, map[string]bool{}
	for range dirs {
		dir := t.TempDir()
		h.w.Add(dir, true)
		want[dir] = true
		if h.w.Looks(dir) {
			polled++
		}
	}
	if polled != dirs-limit {
		t.Errorf("%d of %d directories are looked at with %d watches", polled, dirs, limit)
	}
	for dir := range want {
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for len(want) > 0 { // the test's time limit says if one is missed
		delete(want, <-h.seen)
	}
	stop()
	if len(h.limited) != 1 || !errors.Is(h.limited[0], syscall.ENOSPC) {
		t.Errorf("told of the limit: %v", h.limited)
	}
}
