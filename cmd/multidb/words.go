package main

import (
	"regexp"
	"strings"

	"github.com/multidb-go/multidb/config"
)

// methods are the Manager's that are verbs of the command, as words and not in a path.
var methods = regexp.MustCompile(`(?:^|[ (])(?:TakeOver|Adopt|HandOver|Undelete|Erase)(?:[ ,;)]|$)`)

// words puts what the library says into the words of an operator: keys of the configuration,
// and verbs of the command.
func words(s string) string { return methods.ReplaceAllStringFunc(config.Words(s), strings.ToLower) }
