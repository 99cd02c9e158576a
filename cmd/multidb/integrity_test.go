package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
)

// odd makes one database that its application works with and SQLite does not find
// ok, and one whose index lacks a row.
func odd(t *testing.T, f *fleet) (working, damaged multidb.ID) {
	t.Helper()
	working, damaged = "odd/slug", "odd/damaged"
	f.add(t, working)
	f.add(t, damaged)
	write(t, f.path(working), `CREATE INDEX i ON t(lower(v)); PRAGMA writable_schema=ON;
		UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(slug(v))' WHERE name='i'`)
	write(t, f.path(damaged), "PRAGMA journal_mode=delete; CREATE INDEX i ON t(v)")
	b, err := os.ReadFile(f.path(damaged))
	if err != nil {
		t.Fatal(err)
	}
	page := b[len(b)-4096:] // the index's only one
	page[int(binary.BigEndian.Uint16(page[8:]))+5] ^= 1
	if err := os.WriteFile(f.path(damaged), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return working, damaged
}

func TestAWorkingDatabaseComesBackWithAWarningAndADamagedOneDoesNot(t *testing.T) {
	f, dir := newFleet(t, 1, 1), t.TempDir()
	working, damaged := odd(t, f)
	f.shipTo(t, dir)
	const warning = "table t: its content was not compared: unknown function: slug()"
	run := func(args ...string) *process {
		return invoke(t, nil, append(args, "-dir", dir, "-path", template)...).start()
	}
	warned := func(p *process, id multidb.ID, want bool) {
		t.Helper()
		found := false
		for _, r := range p.records() {
			if fmt.Sprint(r["id"]) == string(id) {
				found = strings.Contains(fmt.Sprint(r["warnings"]), warning)
			}
		}
		told := strings.Contains(p.stderr.String(), "multidb: warning: "+string(id)+": "+warning)
		if found != want || told != want {
			t.Errorf("%q: %s: the warning is in the JSON: %v, on standard error: %v; want %v", p.cmd.Args[1:], id, found, told, want)
		}
	}
	out := t.TempDir()
	restore := func(id multidb.ID, check string) *process {
		return run("restore", string(id), "-o", filepath.Join(out, strings.ReplaceAll(string(id), "/", "-")+check), "-integrity-check", check)
	}
	warned(restore(working, "full").want(0), working, true)
	warned(restore(working, "quick").want(0), working, false)
	warned(restore(working, "none").want(0), working, false)
	restore(damaged, "full").want(1, "database is corrupt")
	restore(damaged, "quick").want(0)
	restore(damaged, "none").want(0)
	restore(working, "fast").want(2, "write none, quick or full")

	warned(run("verify").want(3, string(damaged)+": ", "database is corrupt"), working, true)
	warned(run("verify", "-integrity-check", "quick").want(0), working, false)
	warned(run("verify", "-integrity-check", "none").want(0), working, false)

	all := filepath.Join(out, "all")
	warned(run("restore-all", "-o", all).want(3, string(damaged)+": ", "database is corrupt"), working, true)
	run("restore-all", "-o", all, "-integrity-check", "quick").want(0, "1 restored, 2 existed, 0 failed")
}
