package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// unit is how a figure is written.
type unit uint8

const (
	count     unit = iota
	inSeconds      // of time
	inBytes        // 1 MB is a million
	percent        // of a share
	perSecond
	plain // a number with a fraction
)

func (u unit) format(v float64) string {
	switch u {
	case inSeconds:
		return duration(v)
	case inBytes:
		return bytesOf(v)
	case percent:
		return significant(v*100) + " %"
	case perSecond:
		return number(math.Round(v)) + "/s"
	case plain:
		return significant(v)
	}
	if v != math.Trunc(v) {
		return significant(v)
	}
	return number(v)
}

// spread is the median, with the range if there is one that shows.
func (u unit) spread(s spread) string {
	mid, low, high := u.format(s.median), u.format(s.min), u.format(s.max)
	if low == high {
		return mid
	}
	return fmt.Sprintf("%s (%s – %s)", mid, low, high)
}

func duration(s float64) string {
	switch a := math.Abs(s); {
	case s == 0:
		return "0 s"
	case a < 1e-6:
		return significant(s*1e9) + " ns"
	case a < 1e-3:
		return significant(s*1e6) + " µs"
	case a < 1:
		return significant(s*1e3) + " ms"
	case a < 600:
		return significant(s) + " s"
	case a < 3*3600:
		return significant(s/60) + " min"
	}
	return significant(s/3600) + " h"
}

func bytesOf(v float64) string {
	switch a := math.Abs(v); {
	case a < 1e3:
		return significant(v) + " B"
	case a < 1e6:
		return significant(v/1e3) + " KB"
	case a < 1e9:
		return significant(v/1e6) + " MB"
	}
	return significant(v/1e9) + " GB"
}

// significant writes three digits, or all before the point.
func significant(v float64) string {
	a := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case a >= 100:
		return number(math.Round(v))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// number writes a whole number in groups of three digits.
func number(v float64) string {
	s := strconv.FormatFloat(math.Abs(v), 'f', -1, 64)
	whole, frac, _ := strings.Cut(s, ".")
	var b strings.Builder
	if v < 0 {
		b.WriteByte('-')
	}
	for i, d := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	if frac != "" {
		b.WriteString("." + frac)
	}
	return b.String()
}
