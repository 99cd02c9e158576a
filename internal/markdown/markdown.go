// Package markdown finds the code in the project's documents, for the tests that
// hold them to what they say.
package markdown

import (
	"fmt"
	"strings"
)

// Block is a fenced block of code.
type Block struct {
	Lang string // the word after the fence
	Line int    // of its first line, counted from 1
	Text string
}

// Blocks returns the fenced blocks of a document, in order. A fence begins at
// the start of a line. One that is not closed is an error.
func Blocks(doc string) ([]Block, error) {
	var blocks []Block
	var open *Block
	n := 0
	for line := range strings.Lines(doc) {
		n++
		fence, isFence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case !isFence && open != nil:
			open.Text += line
		case isFence && open == nil:
			open = &Block{Lang: fence, Line: n + 1}
		case isFence && fence != "":
			return nil, fmt.Errorf("line %d: a block begins inside another one", n)
		case isFence:
			blocks, open = append(blocks, *open), nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block is not closed", open.Line)
	}
	return blocks, nil
}

// File is the name on the first line of a block that shows a file: "# multidb.yaml"
// alone. It is empty for other blocks.
func (b Block) File() string {
	first, _, _ := strings.Cut(b.Text, "\n")
	name, ok := strings.CutPrefix(first, "# ")
	if !ok || strings.ContainsAny(name, " \t") || !strings.Contains(name, ".") {
		return ""
	}
	return name
}

// Sections returns the text of a document by its headings, without them. The
// text before the first one is under "".
func Sections(doc string) map[string]string {
	all, heading, fenced := map[string]string{}, "", false
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced && strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
			continue
		}
		all[heading] += line
	}
	return all
}

// Rows returns the cells of the tables in a text, row by row, without the lines
// under the headings.
func Rows(text string) [][]string {
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.Trim(line, "|-: ") == "" {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}
