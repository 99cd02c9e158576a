package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAWrongCommandLineEndsWithTwoAndSaysWhatToWrite(t *testing.T) {
	for line, want := range map[string]string{
		"":                                     "multidb help",
		"restoreall -o x":                      "did you mean restore-all",
		"config chek":                          "did you mean config check",
		"ls -nope":                             "usage: multidb ls",
		"ls -sizez":                            "did you mean -sizes?",
		"restore x --out y":                    "there is no flag -out",
		"confg check":                          "did you mean config",
		"config":                               "config check",
		"config chekc":                         "did you mean config check",
		"ls a b":                               `unexpected argument "b"`,
		"ls":                                   "-config FILE, or -bucket NAME, or -dir DIR",
		"ls -dir d [":                          "pattern",
		"ls -dir d -bucket b":                  "exclude each other",
		"ls -dir d -config c":                  "excludes",
		"ls -region r -dir d":                  "need -bucket",
		"ls -path p":                           "-path needs",
		"restore -dir d id":                    "-o PATH is missing",
		"restore -dir d -o p":                  "an argument is missing",
		"restore -dir d id -o p -txid 0":       "-txid",
		"restore -dir d id -o p -txid zz":      "hexadecimal",
		"restore -dir d x -o p -timestamp now": "2026-01-31T12:00:00Z",
		"restore -dir d x -o p -txid 1 -timestamp 1h": "exclude each other",
		"restore-all -dir d":                          "-o DIR is missing",
		"restore-all -dir d -o o -parallel 0":         "-parallel",
		"ls -dir d -path {{nope":                      "template",
		"completion tcsh":                             "bash, zsh and fish",
		"status -max-lag -1s":                         "-max-lag",
		"takeover":                                    "-all",
		"adopt -all a/b":                              "-all",
		"evict":                                       "an ID is missing",
		"rename a":                                    "an argument is missing",
		"fork a b -txid 0":                            "-txid",
		"fork a b -txid 1 -timestamp 1h":              "exclude each other",
		"config foo":                                  "did you mean config check?",
		"each -sql f":                                 "-name NAME is missing",
		"each -name n":                                "-sql FILE is missing",
		"each -name n -sql f -parallel 0":             "-parallel",
		"each -name n -sql f -forget":                 "exclude each other",
		"each -name n -forget -dry-run":               "exclude each other",
		"erase a":                                     "-yes",
		"nodes a":                                     `unexpected argument "a"`,
		"nodes -timeout 0s":                           "-timeout",
		"drain a":                                     `unexpected argument "a"`,
		"drain -timeout -1s":                          "-timeout",
		"help nothing":                                "no command",
	} {
		t.Run(line, func(t *testing.T) {
			invoke(t, nil, strings.Fields(line)...).start().want(2, want)
		})
	}
}

func TestHelpIsAResult(t *testing.T) {
	for _, line := range []string{"help", "-h", "help restore", "restore -h", "config check -h", "config -h", "help config", "config --help", "version"} {
		p := invoke(t, nil, strings.Fields(line)...).start().want(0)
		if p.stdout.Len() == 0 || p.stderr.Len() > 0 {
			t.Errorf("%s: stdout %q, stderr %q", line, &p.stdout, &p.stderr)
		}
	}
	if p := invoke(t, nil, "config", "-h").start().want(0); !strings.Contains(p.stdout.String(), "usage: multidb config check") {
		t.Errorf("config -h: %s", &p.stdout)
	}
	for _, c := range commands() {
		for _, flag := range []string{"-h", "--help"} {
			if flag == "--help" && testing.Short() {
				continue // which a flag set takes for the same; each is a process
			}
			if p := invoke(t, nil, append(strings.Fields(c.name), flag)...).start().want(0); !strings.Contains(p.stdout.String(), "usage: multidb "+c.name) || p.stderr.Len() > 0 {
				t.Errorf("%s %s: stdout %q, stderr %q", c.name, flag, &p.stdout, &p.stderr)
			}
		}
		if c.short == "" || len(c.short) > 80 {
			t.Errorf("%s is explained by %q", c.name, c.short)
		}
	}
}

func TestAReaderThatHasGoneIsNoFailure(t *testing.T) {
	f := newFleet(t, 20, 10)
	replica := t.TempDir()
	for _, id := range f.ids { // a listing larger than a pipe, without the work
		dir := filepath.Join(replica, "litestream", string(id), strings.Repeat("x", 200), strings.Repeat("y", 200))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "metadata.json"), []byte(`{"format":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"-json", "-json=false"} {
		p := invoke(t, nil, "ls", "-dir", replica, format)
		p.cmd.Stdout = nil
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.start()
		firstLine(t, out)
		if p.want(0); p.stderr.Len() > 0 {
			t.Errorf("%s: it complains: %s", format, &p.stderr)
		}
	}
}

func TestAnIDThatMatchesNothingNamesTheNearest(t *testing.T) {
	f := newFleet(t, 3, 3)
	replica := newDir(t, f)
	cfg := f.configure(t, replica)
	for _, args := range [][]string{
		{"restore", "-dir", replica, "projekt1/db2", "-o", "x.db"},
		{"restore", "-config", cfg, "projekt1/db2", "-o", "x.db"},
		{"snapshots", "-dir", replica, "-path", template, "projekt1/db2"},
		{"status", "-offline", "-config", cfg, "projekt1/db2"},
		{"verify", "-dir", replica, "projekt1/db2"},
		{"ls", "-dir", replica, "projekt1/db2"},
	} {
		invoke(t, nil, args...).start().want(1, "projekt1/db2", "the nearest: project1/db2")
	}
	invoke(t, nil, "restore", "-dir", replica, "\x1b[31m", "-o", "x.db").start().want(1, `"\x1b[31m"`)
}

func TestOneDatabaseIsRestoredAsItWas(t *testing.T) {
	f := newFleet(t, 1, 2)
	id := f.ids[1]
	replica := newDir(t, f)
	first := rowsOf(t, f.path(id))
	all := invoke(t, nil, "snapshots", "-dir", replica, "-path", template, string(id), "-all").start().want(0).records()
	if len(all) == 0 || all[0]["whole"] != true {
		t.Fatalf("files: %v", all)
	}
	txid := all[len(all)-1]["max_txid"].(string)
	between := time.Now().Add(2 * time.Millisecond)
	<-time.After(10 * time.Millisecond) // LTX files are dated in milliseconds
	write(t, f.path(id), "INSERT INTO t (v) VALUES ('later')")
	f.shipTo(t, replica)

	dir := t.TempDir()
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"newest":    {nil, rowsOf(t, f.path(id))},
		"txid":      {[]string{"-txid", strings.TrimLeft(txid, "0")}, first},
		"timestamp": {[]string{"-timestamp", between.UTC().Format(time.RFC3339Nano)}, first},
	} {
		out := filepath.Join(dir, name, "out.db")
		args := append([]string{"restore", string(id), "-o", out, "-dir", replica, "-path", template}, tc.args...)
		r := invoke(t, nil, args...).start().want(0).records()
		if got := rowsOf(t, out); !slices.Equal(got, tc.want) || len(r) != 1 || r[0]["path"] != out {
			t.Errorf("%s: restored %q, want %q; it says %v", name, got, tc.want, r)
		}
		invoke(t, nil, args...).start().want(1, "already exists")
	}
	invoke(t, nil, "restore", string(id), "-o", filepath.Join(dir, "x"), "-dir", replica, "-timestamp", "1000h").start().want(1, "no backup found before ", ": the oldest is transaction "+txid+", of 20", "give a time after it")
	invoke(t, nil, "restore", string(id), "-o", filepath.Join(dir, "x"), "-dir", replica, "-txid", "99").start().want(1, "no backup found of transaction 0000000000000099: the newest is transaction ")
	s := invoke(t, nil, "status", string(id), "-dir", replica).start().want(0).records()
	if len(s) != 1 || s[0]["id"] != string(id) || s[0]["txid"] == "" {
		t.Errorf("status: %v", s)
	}
	l := invoke(t, nil, "ls", "-dir", replica, "-json=false").start().want(0)
	if lines := strings.Split(strings.TrimSpace(l.stdout.String()), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "ID ") || !strings.HasPrefix(lines[2], string(id)+" ") {
		t.Errorf("ls: %q", lines)
	}
}

func TestConfigCheckTellsEveryError(t *testing.T) {
	f := newFleet(t, 1, 1)
	replica := t.TempDir()
	cfg := f.configure(t, replica)
	p := invoke(t, nil, "config", "check", cfg, "-connect").start().want(0)
	if r := p.records(); len(r) != 1 || r[0]["databases"] != 1.0 || r[0]["state_dir"] != f.stateDir() {
		t.Errorf("%v", r)
	}
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "state-dir", "statedir", 1)+"    retention: ${UNSET_FOR_SURE}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, nil, "config", "check", bad).start().want(2, bad+":3:", "state-dir", "UNSET_FOR_SURE")
	invoke(t, []string{"MULTIDB_CONFIG=" + cfg}, "config", "check").start().want(0)
	invoke(t, nil, "config", "check", "missing.yaml").start().want(2, "missing.yaml")
}

func TestBashCompletesCommandsAndFlags(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	script := invoke(t, nil, "completion", "bash").start().want(0).stdout.String()
	for words, want := range map[string]string{
		"multidb rest":                   "restore restore-all",
		"multidb restore-all -para":      "-parallel",
		"multidb completion f":           "fish",
		"multidb config ":                "check",
		"multidb help snap":              "snapshots",
		"multidb takeo":                  "takeover",
		"multidb adopt -dry":             "-dry-run",
		"multidb handover -a":            "-all",
		"multidb era":                    "erase",
		"multidb each -canar":            "-canary",
		"multidb status -max-lag 1s -of": "-offline",
		"multidb each -sql ":             "", // files, which the shell knows
		"multidb each -again -canar":     "-canary",
	} {
		list := strings.Split(words, " ")
		cmd := exec.Command(bash, "--norc", "-c", script+`
			COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _multidb; echo "${COMPREPLY[@]}"`)
		cmd.Args = append(append(cmd.Args, "bash"), list...)
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%q completes to %q, want %q (%v)", words, got, want, err)
		} else if want == "" && got != "" {
			t.Errorf("%q completes to %q, which is no value of the flag", words, got)
		}
	}
}
