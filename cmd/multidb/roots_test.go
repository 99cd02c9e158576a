package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// onVolume is a configuration whose databases are on a volume of the fleet's root,
// with its state beside it.
func onVolume(t *testing.T, f *fleet, more string) (cfg, volume string) {
	t.Helper()
	volume = filepath.Join(f.root, "volume")
	cfg = f.configure(t, t.TempDir())
	b, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), f.pattern, volume+"/{{database}}.db", 1)
	text = strings.Replace(text, "  replica-template", more+"  scan-interval: 50ms\n  replica-template", 1)
	text = strings.Replace(text, template, "{{database}}", 1)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg, volume
}

func TestReplicateEndsWhereARootIsMissing(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg, volume := onVolume(t, f, "")
	invoke(t, nil, "replicate", "-config", cfg).start().want(1, volume, "mount the volume", "allow-missing-roots")
	for _, path := range []string{volume, f.stateDir()} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made: %v", path, err)
		}
	}
	cfg, _ = onVolume(t, f, "  allow-missing-roots: true\n")
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	r := invoke(t, nil, "status", "-config", cfg).start().want(3).records()
	if len(r) != 1 || r[0]["healthy"] != false || r[0]["worst"] != nil || !strings.Contains(r[0]["scan_error"].(string), volume) {
		t.Errorf("status: %v", r)
	}
	run.signal(syscall.SIGINT)
	run.want(0)
}

func TestAListingThatFailsMakesStatusEndWithThree(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg, volume := onVolume(t, f, "")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(volume, "a.db"), "CREATE TABLE t (v)")
	run := invoke(t, nil, "replicate", "-config", cfg).start()
	run.await("replicating")
	invoke(t, nil, "status", "-config", cfg).start().want(0)
	if err := os.Rename(volume, volume+".away"); err != nil {
		t.Fatal(err)
	}
	run.await("scan failed")
	p := invoke(t, nil, "status", "-json=false", "-config", cfg).start().want(3)
	if s := p.stdout.String(); !strings.Contains(s, "not all databases could be listed") || !strings.Contains(s, volume) {
		t.Errorf("status: %s", s)
	}
	if err := os.Rename(volume+".away", volume); err != nil {
		t.Fatal(err)
	}
	run.signal(syscall.SIGINT)
	run.want(0)
}
