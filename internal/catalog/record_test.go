package catalog

import (
	"bytes"
	"testing"
)

// TestTheFormatOfTheVariablesStays because every state directory has them.
func TestTheFormatOfTheVariablesStays(t *testing.T) {
	r := Record{Vars: []Var{{"project", "p0"}, {"db", ""}}, RelPath: "p0/x.db"}
	want := []byte("\x02\x07project\x02p0\x02db\x00\x07p0/x.db")
	if got := r.packVars(); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestARecordOfUnknownVariablesIsLeftOut(t *testing.T) {
	c := open(t, t.TempDir())
	c.Put(record(1))
	c.enqueue(change{rec: record(2), vars: []byte{9}})
	flush(t, c)
	expect(t, c, record(1))
}
