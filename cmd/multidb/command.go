package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/multidb-go/multidb/internal/nearest"
)

// A command is one word, or two, after multidb.
type command struct {
	name  string
	args  string // of the usage line
	short string
	long  string // more paragraphs
	flags func(fs *flag.FlagSet) action
}

// action does the work after its flags were parsed. args are the operands.
type action func(ctx context.Context, e *env, args []string) error

// commands returns all of them, in the order of the help.
func commands() []*command {
	return []*command{
		replicateCommand(), lsCommand(), statusCommand(), snapshotsCommand(),
		restoreCommand(), restoreAllCommand(), verifyCommand(), unpackCommand(),
		takeoverCommand(), adoptCommand(), handoverCommand(), nodesCommand(), drainCommand(),
		evictCommand(), removeCommand(), undeleteCommand(), eraseCommand(), renameCommand(), forkCommand(), eachCommand(),
		configCheckCommand(), versionCommand(), completionCommand(), manCommand(),
	}
}

// find returns the command that args begin with, and the rest. Without a command, it
// is help that is wanted, about rest.
func find(args []string) (*command, []string, error) {
	if len(args) == 0 {
		return nil, nil, usagef("no command; `multidb help` lists them")
	}
	if slices.Contains(helpWords, args[0]) {
		return nil, args[1:], nil
	}
	if args[0] == "-version" || args[0] == "--version" {
		args = []string{"version"}
	}
	var names []string
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return c, args[len(words):], nil
		}
		names = append(names, c.name, words[0])
	}
	given := args[0]
	if of := group(given); len(of) > 0 {
		switch {
		case len(args) == 1:
			return nil, nil, usagef("%s needs a second word, as in `multidb %s`; `multidb help %[1]s` explains", given, of[0].name)
		case slices.Contains(helpWords, args[1]):
			return nil, args[:1], nil
		}
		given += " " + args[1]
		if len(of) == 1 { // no other can be meant
			return nil, nil, usagef("no command %q; did you mean %s? `multidb help` lists them", given, of[0].name)
		}
	}
	if near := nearest.Names(given, names, 1); len(near) > 0 {
		return nil, nil, usagef("no command %q; did you mean %s? `multidb help` lists them", given, near[0])
	}
	return nil, nil, usagef("no command %q; `multidb help` lists them", given)
}

// helpWords ask for help where a command could stand.
var helpWords = []string{"help", "-h", "-help", "--help"}

// group returns the commands whose first word of two is name.
func group(name string) (of []*command) {
	for _, c := range commands() {
		if first, _, two := strings.Cut(c.name, " "); two && first == name {
			of = append(of, c)
		}
	}
	return of
}

func (c *command) usage() string { return strings.TrimSpace(c.name + " " + c.args) }

func (c *command) run(ctx context.Context, e *env, args []string) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	act := c.flags(fs)
	var operands []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return c.help(e.stdout)
		} else if err != nil {
			return usagef("%s", wrongFlag(fs, err))
		}
		rest := fs.Args()
		if len(rest) == 0 {
			break
		}
		if used := len(args) - len(rest); used > 0 && args[used-1] == "--" {
			operands = append(operands, rest...)
			break
		}
		// The flag package stops at the first operand; flags may come after it.
		operands, args = append(operands, rest[0]), rest[1:]
	}
	if err := given(fs, operands); err != nil {
		return err
	}
	return act(ctx, e, operands)
}

// wrongFlag says what is wrong with a flag: of one that is not there, which was meant.
func wrongFlag(fs *flag.FlagSet, err error) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err.Error()
	}
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	// Every short name is near to a short one.
	if near := nearest.Names(name, names, 1); len(near) > 0 && len(name) > 2 {
		return fmt.Sprintf("there is no flag -%s; did you mean -%s?", name, near[0])
	}
	return fmt.Sprintf("there is no flag -%s", name)
}

// given refuses what was given and is empty, as a variable of a script that is not set: left
// out, it would mean everything, or another place.
func given(fs *flag.FlagSet, operands []string) (err error) {
	if slices.Contains(operands, "") {
		return usagef("an argument is empty: is a variable of a script not set?")
	}
	fs.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" && err == nil {
			err = usagef("-%s is empty: give it a value, or leave it out; is a variable of a script not set?", f.Name)
		}
	})
	return err
}

func (c *command) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nusage: multidb %s\n", c.short, c.usage())
	if c.long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.long))
	}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.flags(fs)
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			b.WriteString("\nflags:\n")
			first = false
		}
		value, text := explain(f)
		fmt.Fprintf(&b, "  -%s\n        %s\n", strings.TrimSpace(f.Name+" "+value), strings.ReplaceAll(text, "\n", "\n        "))
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// explain returns the name of a flag's value, or "", and what the flag does.
func explain(f *flag.Flag) (value, text string) {
	value, text = flag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "auto" {
		text += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	return value, text
}

// notes is what goes for all commands.
const notes = `Where the databases' backups are is said by one of
  -config FILE                 a configuration; else $MULTIDB_CONFIG, else ./multidb.yaml
  -bucket NAME [-path P] …     a bucket, with the credentials of the environment
  -dir DIR [-path P]           a directory

On a terminal the output is a table, elsewhere JSON, one object a line (-json).
Exit codes: 0 all well, 1 failed, 2 wrong usage or configuration, 3 partly failed
(some databases), 4 another node of the cluster has the database, 130 interrupted,
143 by SIGTERM.
`

// help explains what args name, or lists the commands.
func help(w io.Writer, args []string) error {
	if len(args) > 0 {
		if of := group(args[0]); len(of) > 0 && len(args) == 1 {
			return helpOf(w, of)
		}
		c, _, err := find(args)
		if err != nil {
			return err
		}
		if c != nil {
			return c.help(w)
		}
	}
	var b strings.Builder
	b.WriteString(`multidb replicates a fleet of SQLite databases to S3 and gets them back.

usage: multidb COMMAND [flags] [arguments]

commands:
`)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		_, _ = fmt.Fprintf(tw, "  %s\t%s\n", c.usage(), c.short) // a Builder takes everything
	}
	_ = tw.Flush()
	b.WriteString("\n" + notes + "`multidb help COMMAND` explains a command.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// helpOf explains commands, one after another.
func helpOf(w io.Writer, all []*command) error {
	for i, c := range all {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if err := c.help(w); err != nil {
			return err
		}
	}
	return nil
}

// operands checks the number of operands.
func operands(args []string, atLeast, atMost int) error {
	switch {
	case len(args) < atLeast:
		return usagef("an argument is missing")
	case len(args) > atMost:
		return usagef("unexpected argument %q", args[atMost])
	}
	return nil
}
