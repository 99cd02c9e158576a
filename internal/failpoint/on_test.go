//go:build failpoint

package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		for range 3 {
			Hit("there")
			Hit("elsewhere")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, arm string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", Env+"="+arm)
	return cmd.Run()
}

func TestAnArmedPlaceKillsAtItsCount(t *testing.T) {
	var exit *exec.ExitError
	if err := child(t, "there@3"); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v", err)
	}
	if err := child(t, "there@4"); err != nil {
		t.Fatalf("it was killed before its count: %v", err)
	}
	if err := child(t, ""); err != nil {
		t.Fatal(err)
	}
}

func TestABadValueIsRefusedLoudly(t *testing.T) {
	for _, s := range []string{"x", "x@", "x@0", "@1", "x@y"} {
		if err := child(t, s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestAnAnswerIsLostOnce(t *testing.T) {
	p := parse("y@2")
	if p.fires("y") || p.fires("z") || !p.fires("y") || p.fires("y") {
		t.Fatal("the count is wrong")
	}
}
