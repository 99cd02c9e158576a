package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb/internal/control"
)

func TestTheAlarmIsRedWhenTheProcessIsDead(t *testing.T) {
	f := newFleet(t, 1, 2)
	cfg := f.configure(t, t.TempDir())
	alarm := func() *process { return invoke(t, nil, "status", "-max-lag", "1m", "-config", cfg).start() }
	alarm().want(1, "there is no state directory", "what runs on others cannot be told")

	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	alarm().want(0)

	run.signal(syscall.SIGSTOP)
	who := fmt.Sprintf("(process %d, last seen 20", run.cmd.Process.Pid)
	invoke(t, nil, "status", "-max-lag", "1m", "-timeout", "1s", "-config", cfg).start().want(1, "is stuck", who, "no answer within 1s")
	invoke(t, nil, "status", "project0/db0", "-timeout", "1s", "-state-dir", f.stateDir()).start().want(1, "is stuck", who)
	run.signal(syscall.SIGCONT)
	alarm().want(0)

	run.signal(syscall.SIGKILL)
	run.want(-1)
	for _, where := range [][]string{{"-config", cfg}, {"-state-dir", f.stateDir()}} {
		p := invoke(t, nil, append([]string{"status", "-max-lag", "1m"}, where...)...).start()
		p.want(1, "no multidb replicate is running", "nothing is shipped since", who)
		if p.stdout.Len() > 0 {
			t.Errorf("it says something all the same: %s", &p.stdout)
		}
	}
	invoke(t, nil, "status", "-offline", "-config", cfg).start().want(0)

	run = invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	alarm().want(0)
	run.signal(syscall.SIGTERM)
	run.want(0)
	alarm().want(1, "no multidb replicate is running")
}

func TestTheAlarmSaysThatItCannotKnowOfAnotherHost(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	if err := os.Mkdir(f.stateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.stateDir(), "lock"), []byte("17\nelsewhere.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := invoke(t, nil, "status", "-config", cfg).start().want(1, "another host", "process 17 on elsewhere.example", "cannot be told from here")
	if strings.Contains(p.stderr.String(), "nothing is shipped") {
		t.Errorf("it claims to know: %s", &p.stderr)
	}
}

func TestTheAlarmNamesAProcessThatServesNoSocket(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	run := invoke(t, nil, "replicate", "-config", cfg, "-socket=false").start()
	run.await("replicating")
	invoke(t, nil, "status", "-config", cfg).start().want(1, fmt.Sprintf("process %d, which had it last, serves no socket", run.cmd.Process.Pid))
	run.signal(syscall.SIGTERM)
	run.want(0)
	if !control.Seen(f.stateDir()).IsZero() {
		invoke(t, nil, "status", "-config", cfg).start().want(1, "no multidb replicate is running")
	}
}
