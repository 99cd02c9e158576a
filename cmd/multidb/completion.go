package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

func completionCommand() *command {
	return &command{
		name:  "completion",
		args:  "bash|zsh|fish",
		short: "print a script that completes commands and flags in a shell",
		long: `
bash:  source <(multidb completion bash)
zsh:   source <(multidb completion zsh)
fish:  multidb completion fish | source`,
		flags: func(*flag.FlagSet) action {
			return func(_ context.Context, e *env, args []string) error {
				if err := operands(args, 1, 1); err != nil {
					return err
				}
				scripts := map[string]func() string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
				script, ok := scripts[args[0]]
				if !ok {
					return usagef("no shell %q; there are bash, zsh and fish", args[0])
				}
				_, err := io.WriteString(e.stdout, script())
				return err
			}
		},
	}
}

// completed is what the shell can complete after a command.
type completed struct {
	name, short string
	flags       []string
	valued      map[string]bool // of flags, those that are followed by a value
	words       []string        // its first operand
}

func completions() []completed {
	all := []completed{{name: "help", short: "explain a command"}}
	for _, c := range commands() {
		name, sub, _ := strings.Cut(c.name, " ")
		one := completed{name: name, short: c.short, valued: map[string]bool{}}
		if sub != "" {
			one.words = append(one.words, sub)
		}
		if name == "completion" {
			one.words = []string{"bash", "zsh", "fish"}
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(fs)
		fs.VisitAll(func(f *flag.Flag) {
			one.flags = append(one.flags, "-"+f.Name)
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			one.valued["-"+f.Name] = !ok || !b.IsBoolFlag()
		})
		all[0].words = append(all[0].words, name)
		all = append(all, one)
	}
	return all
}

// valuedFlags are the flags of all commands that are followed by a value, which a shell
// completes as a file: no flag is of one kind here and of another there.
func valuedFlags() string {
	all := map[string]bool{}
	for _, c := range completions() {
		for f, valued := range c.valued {
			if valued {
				all[f] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), "|")
}

func bashCompletion() string {
	var b strings.Builder
	b.WriteString(`# bash completion for multidb
_multidb() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="` + strings.Join(completionNames(), " ") + `"
    else
        case "${COMP_WORDS[1]}" in
`)
	for _, c := range completions() {
		fmt.Fprintf(&b, "        %s) words=%q ;;\n", c.name, strings.Join(slices.Concat(c.words, c.flags), " "))
	}
	b.WriteString(`        esac
        case "${COMP_WORDS[COMP_CWORD-1]}" in
        ` + valuedFlags() + `) words= ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    # Files otherwise.
    if [ ${#COMPREPLY[@]} -eq 0 ]; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _multidb multidb
`)
	return b.String()
}

func completionNames() []string {
	var names []string
	for _, c := range completions() {
		names = append(names, c.name)
	}
	return names
}

func zshCompletion() string {
	var b strings.Builder
	b.WriteString(`#compdef multidb
_multidb() {
    local -a names
    if (( CURRENT == 2 )); then
        names=(
`)
	for _, c := range completions() {
		fmt.Fprintf(&b, "            '%s:%s'\n", c.name, quoteShell(c.short))
	}
	b.WriteString(`        )
        _describe command names
        return
    fi
    case $words[2] in
`)
	for _, c := range completions() {
		fmt.Fprintf(&b, "        %s) names=(%s) ;;\n", c.name, strings.Join(slices.Concat(c.words, c.flags), " "))
	}
	b.WriteString(`    esac
    case $words[CURRENT-1] in
        ` + valuedFlags() + `) names=() ;;
    esac
    compadd -- $names
    _files
}
# A file of $fpath is run when it is first needed, to complete; elsewhere it is sourced.
if [[ $funcstack[1] = _multidb ]]; then
    _multidb "$@"
else
    compdef _multidb multidb
fi
`)
	return b.String()
}

func fishCompletion() string {
	var b strings.Builder
	b.WriteString("# fish completion for multidb\n")
	for _, c := range completions() {
		fmt.Fprintf(&b, "complete -c multidb -n __fish_use_subcommand -f -a %s -d '%s'\n", c.name, quoteShell(c.short))
		for _, w := range c.words {
			fmt.Fprintf(&b, "complete -c multidb -n '__fish_seen_subcommand_from %s' -f -a %s\n", c.name, w)
		}
		for _, f := range c.flags {
			takes := ""
			if c.valued[f] {
				takes = " -r"
			}
			fmt.Fprintf(&b, "complete -c multidb -n '__fish_seen_subcommand_from %s' -o %s%s\n", c.name, strings.TrimPrefix(f, "-"), takes)
		}
	}
	return b.String()
}

// quoteShell makes text fit between single quotes.
func quoteShell(s string) string { return strings.ReplaceAll(s, "'", `'\''`) }
