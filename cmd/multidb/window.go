package main

import (
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// columnsUnknown is taken for the width of a terminal that does not tell it.
const columnsUnknown = 80

// columns is how wide a terminal is now: whoever has it may change that at any time.
func columns(w any) int {
	if f, ok := w.(file); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	return columnsUnknown
}

// lines is how many lines a terminal has now; 0: it does not tell.
func lines(w any) int {
	if f, ok := w.(file); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return int(size.Row)
		}
	}
	return 0
}

// cells is how many columns a text takes, or more: Hangul, symbols, and what comes after
// them, most of which is Chinese, Japanese, or pictures, count as two.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x1100 && r < 0x1160 || r >= 0x2300 {
			n++
		}
	}
	return n
}

// cut shortens a text to so many columns, with a sign that there was more.
func cut(s string, most int) string {
	if cells(s) <= most {
		return s
	}
	for s != "" && cells(s)+1 > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	if most < 1 {
		return ""
	}
	return s + "…"
}
