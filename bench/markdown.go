package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// The lines between which a Markdown file has the table.
const (
	beginMark = "<!-- bench: begin -->"
	endMark   = "<!-- bench: end -->"
)

// markdown is the table, and what has to be known to read it.
func (res *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s: %s. %s. ", res.began.Format("2 January 2006"), res.machine, res.versions)
	fmt.Fprintf(&b, "%s, %s, in %s.\n\n", pick(res.short, "Short form", "Full form"), repetitions(res.runs), duration(res.took.Seconds()))
	b.WriteString("The median, and the range of the repetitions. \"From M\": stock was measured with M databases, and what it needs grows with their number. The ratio is how many times better multidb is.\n")
	if !res.ram {
		b.WriteString("There was no place for files in memory: scenarios \"in memory\" used the disk.\n")
	}
	lines := []line{{"scenario", "N", "multidb", "stock litestream", "ratio", "bar", ""}}
	for _, m := range res.all {
		lines = append(lines, m.lines()...)
	}
	b.WriteByte('\n')
	writeTable(&b, lines)
	return b.String()
}

func repetitions(n int) string {
	if n == 1 {
		return "one repetition"
	}
	return fmt.Sprintf("%d repetitions", n)
}

func (l line) cells() [7]string {
	return [7]string{l.what, l.n, l.multidb, l.stock, l.ratio, l.bar, l.verdict}
}

func writeTable(b *strings.Builder, lines []line) {
	var width [7]int
	for _, l := range lines {
		for i, c := range l.cells() {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	last := ""
	for i, l := range lines {
		cells := l.cells()
		if cells[0] == last {
			cells[0] = "" // the same row at another size
		}
		last = l.what
		for j, c := range cells {
			b.WriteString("| " + c + strings.Repeat(" ", width[j]-utf8.RuneCountInString(c)) + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			for j := range cells {
				b.WriteString("|" + strings.Repeat("-", width[j]+2))
			}
			b.WriteString("|\n")
		}
	}
}

// checkMarkers says early that a table could not be written.
func checkMarkers(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, _, err = between(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// between returns what is up to the first marker, and from the second on.
func between(b []byte) (before, after []byte, err error) {
	i := bytes.Index(b, []byte(beginMark))
	j := bytes.Index(b, []byte(endMark))
	if i < 0 || j < i {
		return nil, nil, fmt.Errorf("want a line %q and after it one %q", beginMark, endMark)
	}
	return b[:i+len(beginMark)], b[j:], nil
}

func writeBetweenMarkers(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, after, err := between(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s\n\n%s\n%s", before, text, after), 0o644)
}
