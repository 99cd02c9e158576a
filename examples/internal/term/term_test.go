package term

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestNumbersAreReadable(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0):                         "0 B",
		Bytes(1023):                      "1023 B",
		Bytes(1536):                      "1.5 KB",
		Bytes(5 << 30):                   "5.0 GB",
		Bytes(3 << 50):                   "3072.0 TB",
		Count(0):                         "0",
		Count(999):                       "999",
		Count(int64(1234567)):            "1,234,567",
		Count(-1000):                     "-1,000",
		Count(-100):                      "-100",
		Plural(1, "file"):                "1 file",
		Plural(1000, "file"):             "1,000 files",
		Duration(1234 * time.Nanosecond): "1µs",
		Duration(1234567890):             "1.23s",
		Duration(61*time.Second + 1):     "1m1s",
		Bar(0, 10, 4):                    "[....]",
		Bar(5, 10, 4):                    "[##..]",
		Bar(11, 10, 4):                   "[####]",
		Bar(0, 0, 2):                     "[##]",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestALineOnAPipeIsAtMostOneASecondAndTheLastIsAlwaysThere(t *testing.T) {
	var out strings.Builder
	l := NewLine(&out)
	now := time.Unix(1, 0)
	l.now = func() time.Time { return now }
	l.Show("%d", 1)
	now = now.Add(500 * time.Millisecond)
	l.Show("%d", 2)
	now = now.Add(500 * time.Millisecond)
	l.Show("%d", 3)
	l.End("%d", 4)
	if got := out.String(); got != "1\n3\n4\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestALineOnATerminalIsRewrittenInPlace(t *testing.T) {
	var out strings.Builder
	l := NewLine(&out)
	l.tty = true
	l.Show("a")
	l.Show("b")
	l.End("c")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Count(got, "\r") != 3 || !strings.HasSuffix(got, "c\n") {
		t.Errorf("wrote %q", got)
	}
}

func TestAPipeIsNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if IsTerminal(w) || IsTerminal(&strings.Builder{}) {
		t.Error("taken for a terminal")
	}
}

func TestMemoryIsKnown(t *testing.T) {
	if m := ReadMemory(); m.Go <= 0 || m.String() == "" {
		t.Errorf("%+v", m)
	}
}
