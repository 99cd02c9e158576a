// Package term writes what the examples show: lines that change in place on a
// terminal and are plain lines elsewhere, tables, and numbers made readable.
package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// IsTerminal reports whether w is a terminal, or another character device.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Line is one line of text that changes: rewritten in place on a terminal, and
// elsewhere a line each, at most one a second. Not safe for concurrent use.
type Line struct {
	w    io.Writer
	tty  bool
	last time.Time // when a plain line was written
	now  func() time.Time
}

// NewLine returns a Line on w.
func NewLine(w io.Writer) *Line { return &Line{w: w, tty: IsTerminal(w), now: time.Now} }

// The cursor goes to the start, the rest of the line is cleared, and wrapping
// is off while writing: a text wider than the terminal would scroll it.
const rewrite = "\r\x1b[K\x1b[?7l%s\x1b[?7h"

// Show replaces the text.
func (l *Line) Show(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if l.tty {
		_, _ = fmt.Fprintf(l.w, rewrite, text)
		return
	}
	// A tenth less, so that a caller that ticks every second is not halved.
	if now := l.now(); now.Sub(l.last) >= 900*time.Millisecond {
		l.last = now
		_, _ = fmt.Fprintln(l.w, text)
	}
}

// End writes the last text, which is always shown, and ends the line.
func (l *Line) End(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if l.tty {
		text = "\r\x1b[K" + text
	}
	_, _ = fmt.Fprintln(l.w, text)
}

// Bar draws a progress bar of the given width in characters.
func Bar(done, total, width int) string {
	n := width
	if total > 0 {
		n = min(max(done, 0), total) * width / total
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}

// Table writes rows in aligned columns, indented by two spaces; the first row
// is the heading.
func Table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(tw, "  "+strings.Join(r, "\t"))
	}
	_ = tw.Flush()
}

// Bytes is a size in B, KB, MB or GB (powers of 1024).
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n), "KMGT"
	i := -1
	for v >= 1<<10 && i < len(units)-1 {
		v /= 1 << 10
		i++
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

// Count is a number with thousands separated: 10,000.
func Count[N int | int64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural is the number and the noun: 1 file, 2 files.
func Plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Count(n) + " " + noun
}

// Duration is rounded to what a reader cares about.
func Duration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}
