package multidbhttp

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// number writes an integer with commas between thousands.
func number[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// plural is "1 database", "2 databases".
func plural(n any, one string) string {
	count, text := int64(0), ""
	switch n := n.(type) {
	case int:
		count = int64(n)
	case int64:
		count = n
	}
	text = number(count) + " " + one
	if count != 1 {
		text += "s"
	}
	return text
}

// size writes bytes in the unit that leaves one to four digits before the point.
func size(n int64) string {
	if n < 1024 {
		return plural(n, "byte")
	}
	f, unit := float64(n)/1024, 0
	for f >= 1023.95 && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, units[unit])
}

var units = [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}

// span writes a duration in words, in at most two units.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "none"
	case d < time.Millisecond:
		return "under 1 millisecond"
	case d < time.Second:
		return plural(d.Milliseconds(), "millisecond")
	case d < 10*time.Second && d%time.Second != 0:
		if s := fmt.Sprintf("%.1f", d.Seconds()); !strings.HasSuffix(s, ".0") {
			return s + " seconds"
		}
	}
	type unit struct {
		length time.Duration
		name   string
	}
	steps := [...]unit{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}}
	for i, u := range steps {
		if d < u.length && u.length > time.Second {
			continue
		}
		text := plural(int64(d/u.length), u.name)
		if i+1 < len(steps) {
			if rest := int64(d % u.length / steps[i+1].length); rest > 0 {
				text += " " + plural(rest, steps[i+1].name)
			}
		}
		return text
	}
	return "none"
}

// ago is how long before now a moment was, in one unit.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	d := now.Sub(t)
	if d < time.Second {
		return "just now"
	}
	for _, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute} {
		if d >= unit {
			d = d.Truncate(unit)
			break
		}
	}
	return span(d.Truncate(time.Second)) + " ago"
}

// exact is a moment to the second, for people.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// stamp is a moment for programs, as <time datetime> has it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// clock is the time of day, as the axes of charts have it.
func clock(t time.Time) string { return t.UTC().Format("15:04") }

// short is a moment to the minute, for the ends of a line of time.
func short(t time.Time) string { return t.UTC().Format("2 Jan 15:04") }

// dollars writes US dollars to the cent, or says that it is less than one.
func dollars(usd float64) string {
	cents := math.Round(usd * 100)
	switch {
	case usd <= 0:
		return "$0"
	case cents < 1:
		return "under $0.01"
	case cents >= 1e13:
		return fmt.Sprintf("$%.3g", usd)
	}
	return fmt.Sprintf("$%s.%02d", number(int64(cents)/100), int64(cents)%100)
}

// percent is a share of a whole, rounded; 100 % is all of it.
func percent(part, whole int) string {
	switch {
	case whole <= 0 || part <= 0:
		return "0 %"
	case part*100 < whole:
		return "under 1 %"
	case part >= whole:
		return "100 %"
	}
	return strconv.Itoa(min(99, (part*100+whole/2)/whole)) + " %"
}

// name writes an ID so that nobody who names a tenant can make it look like another one:
// what is not visible, or turns the direction of text, is written as an escape.
func name(id string) string {
	if id != "" && strings.IndexFunc(id, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return id
	}
	return strconv.Quote(id)
}

// condition is how a database is, in one word and one of three kinds.
type condition struct{ Kind, Word string }

func stateOf(r tenantRow) condition {
	switch {
	case r.Reason == "fenced" || r.Reason == "conflict": // which Stats.Stopped counts; all others are tried again
		return condition{"bad", "Stopped: " + r.Reason}
	case r.Reason != "" && r.Reason != "other":
		return condition{"bad", "Failing: " + r.Reason}
	case r.Err != "":
		return condition{"bad", "Failing"}
	case r.TXID == "":
		return condition{"warn", "Nothing durable yet"}
	case r.Behind:
		return condition{"warn", "Behind"}
	case !r.Resident:
		return condition{"good", "Well, evicted"}
	}
	return condition{"good", "Well"}
}

// saying is what a verb does, in the words of its button and its confirmation.
type saying struct {
	Do     string // of the button
	What   string // it does
	Danger bool
}

func verbWords(v Verb) saying {
	switch v {
	case VerbSync:
		return saying{Do: "Sync now", What: "Ships what the replica lacks of this database, and waits for it. Nothing else changes."}
	case VerbEvict:
		return saying{Do: "Evict", What: "Waits until no handle of the database is held, ships what is left, and closes it. Where the fleet has a limit of disk, its local file is deleted then: the replica has all of it, and the next use brings it back."}
	case VerbRestore:
		return saying{Do: "Restore to a new file", What: "Makes a new database file of what the replica holds, whole and checked. The database itself is not touched, and no file is overwritten."}
	case VerbAdopt:
		return saying{Do: "Adopt the replica’s state", Danger: true, What: "Sets the local file aside, with every commit in it that the replica lacks, and puts the newest state of the replica in its place. It waits until no handle is held. Programs that have opened the file themselves keep the old one: end them first."}
	case VerbTakeOver:
		return saying{Do: "Take over", Danger: true, What: "Makes the local file the truth: its state becomes the newest one of the replica, whoever wrote there last. The other writer, if there still is one, is fenced. Its history can be restored by TXID or time until the retention ends."}
	}
	return saying{Do: string(v)}
}

// titleOf is what a page is called in the browser's tab, before the name of the fleet.
func titleOf(s shell) string {
	switch v := s.View.(type) {
	case *fleetView:
		if v.Started != nil || !v.Healthy {
			return "Not well"
		}
		return "Well"
	case *listView:
		return "Databases"
	case *tenantView:
		return name(v.ID)
	case *confirmView:
		return verbWords(v.Verb).Do
	case *loginView:
		return "Sign in"
	}
	return "Message"
}
