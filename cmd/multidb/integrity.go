package main

import (
	"flag"

	"github.com/multidb-go/multidb"
)

// integrityHelp is a paragraph of the commands that check what they restore.
const integrityHelp = `
The check fails a damaged database. What is no damage is a warning, on standard
error and in the JSON: rows that break a rule of their schema, and what needs a
function, a collation or a tokenizer of the application to be compared.`

// addIntegrityCheck adds -integrity-check.
func addIntegrityCheck(fs *flag.FlagSet) *multidb.IntegrityCheck {
	check := new(multidb.IntegrityCheck)
	fs.TextVar(check, "integrity-check", multidb.IntegrityFull, "how to check each: `HOW` is full, quick (without comparing rows with\nindexes) or none")
	return check
}
