package main

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watched starts ls -watch and returns what it writes.
func watched(t *testing.T, args ...string) (*process, *bufio.Reader) {
	t.Helper()
	p := invoke(t, nil, append([]string{"ls", "-watch=100ms"}, args...)...)
	p.cmd.Stdout = nil
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	return p, bufio.NewReader(out)
}

func TestElsewhereThanOnATerminalWatchedListsFollowEachOther(t *testing.T) {
	f := newFleet(t, 1, 2)
	cfg := f.running(t, "")
	t.Run("as JSON, one document each", func(t *testing.T) {
		p, out := watched(t, "-config", cfg)
		var last time.Time
		dec := json.NewDecoder(out)
		for range 3 {
			var doc struct {
				Time      time.Time
				Databases []map[string]any
			}
			if err := dec.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			if !doc.Time.After(last) || len(doc.Databases) != 2 || doc.Databases[1]["id"] != "project0/db1" {
				t.Errorf("%+v after %v", doc, last)
			}
			last = doc.Time
		}
		p.signal(syscall.SIGINT)
		if _, err := io.Copy(io.Discard, out); err != nil {
			t.Fatal(err)
		}
		p.want(130)
	})
	t.Run("as tables, with the time and an empty line between", func(t *testing.T) {
		p, out := watched(t, "-config", cfg, "-json=false")
		var all []string
		for range 11 {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "\x1b") {
				t.Errorf("an escape: %q", line)
			}
			all = append(all, line)
		}
		for _, i := range []int{0, 5} {
			if !strings.HasPrefix(all[i], "20") || !strings.HasPrefix(all[i+1], "ID ") || all[i+4] != "\n" {
				t.Errorf("%q", all)
			}
		}
		p.signal(syscall.SIGTERM)
		if _, err := io.Copy(io.Discard, out); err != nil {
			t.Fatal(err)
		}
		p.want(143)
	})
	invoke(t, nil, "ls", "-watch", "-config", cfg, "nothing/*").start().want(1, "no database matches")
	invoke(t, nil, "ls", "-watch=1ms", "-config", cfg).start().want(2, "-watch=5s")
	invoke(t, nil, "ls", "-watch", "-dir", t.TempDir()).start().want(2, "-watch is for a replicate that runs")
}
