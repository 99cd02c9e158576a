package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
)

func manCommand() *command {
	return &command{
		name:  "man",
		short: "print the manual page",
		long: `
It is made of what help says of each command, as mdoc:
  multidb man | man -l -       to read it
  multidb man > multidb.1      to install it`,
		flags: func(*flag.FlagSet) action {
			return func(_ context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				_, err := io.WriteString(e.stdout, manual(builtAt()))
				return err
			}
		},
	}
}

// builtAt is the time of the commit that the command was built from, so that the same
// commit always makes the same page; without one it is now.
func builtAt() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					return t
				}
			}
		}
	}
	return time.Now().UTC()
}

// manual is the page in mdoc, which mandoc and groff read.
func manual(date time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, `.Dd %s
.Dt MULTIDB 1
.Os
.Sh NAME
.Nm multidb
.Nd replicate a fleet of SQLite databases to S3 and get them back
.Sh SYNOPSIS
.Nm
.Ar command
.Op Ar flags
.Op Ar arguments
.Sh DESCRIPTION
`, date.Format("January 2, 2006"))
	manText(&b, notes)
	b.WriteString(".Sh COMMANDS\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, ".Ss %s\n", roff(c.usage()))
		manText(&b, strings.ToUpper(c.short[:1])+c.short[1:]+".\n\n"+strings.TrimSpace(c.long))
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(fs)
		first := true
		fs.VisitAll(func(f *flag.Flag) {
			if first {
				b.WriteString(".Bl -tag -width Ds\n")
				first = false
			}
			value, text := explain(f)
			if value != "" {
				value = " Ar " + roff(value)
			}
			fmt.Fprintf(&b, ".It Fl %s%s\n", roff(f.Name), value)
			manSentences(&b, text)
		})
		if !first {
			b.WriteString(".El\n")
		}
	}
	b.WriteString(".Sh SEE ALSO\n.Xr sqlite3 1\n")
	return b.String()
}

// manText writes paragraphs. Lines are kept as they are where a paragraph has an
// indented one, or one in columns; else they are filled.
func manText(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".Pp\n")
		}
		if !strings.Contains(paragraph, "  ") {
			manSentences(b, paragraph)
			continue
		}
		b.WriteString(".Bd -literal -compact\n")
		for line := range strings.Lines(paragraph) {
			b.WriteString(roff(strings.TrimSuffix(line, "\n")) + "\n")
		}
		b.WriteString(".Ed\n")
	}
}

// manSentences writes each sentence on lines of its own, as mdoc wants it.
func manSentences(b *strings.Builder, text string) {
	for line := range strings.Lines(strings.ReplaceAll(text, ". ", ".\n")) {
		b.WriteString(roff(strings.TrimSpace(line)) + "\n")
	}
}

// roff makes text mean itself: no line of it is a request.
func roff(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-': // a minus, which can be copied to a shell
			b.WriteString(`\-`)
		case i == 0 && (r == '.' || r == '\''):
			b.WriteString(`\&` + string(r))
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
