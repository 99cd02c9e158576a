package config

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The parser takes time quadratic in the keys and in the depth of a document,
// and its depth is stack. The lexer is linear, so its tokens are counted first.
const (
	maxKeys  = 500 // a file with every key there is has about 60
	maxDepth = 8   // of flow collections; 2 have a use
)

var bom = []byte("\xef\xbb\xbf")

// parse returns the document's root, without what no configuration needs.
func parse(name string, data []byte) (node ast.Node, err *Error) {
	fail := func(tk *token.Token, format string, args ...any) (ast.Node, *Error) {
		e := &Error{File: name, Err: errInvalid(fmt.Sprintf(format, args...))}
		if tk != nil && tk.Position != nil {
			e.Line, e.Column = tk.Position.Line, tk.Position.Column
		}
		return nil, e
	}
	data = bytes.TrimPrefix(data, bom)
	if i := invalidByte(data); i >= 0 {
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		return nil, &Error{File: name, Line: line, Column: i - bytes.LastIndexByte(data[:i], '\n'),
			Err: errInvalid("not text in UTF-8; is this a YAML file?")}
	}
	defer func() {
		// A parser of untrusted text that panics is not worth the process.
		if r := recover(); r != nil {
			node, err = fail(nil, "not valid YAML")
		}
	}()
	// CRLF would end up in the lexer's literals and its columns.
	tokens := lexer.Tokenize(string(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))))
	if tk, what := unsupported(tokens); tk != nil {
		return fail(tk, "%s", what)
	}
	file, perr := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if perr != nil {
		// Its own text quotes the file, secrets included.
		if se, ok := errors.AsType[*yaml.SyntaxError](perr); ok {
			return fail(se.Token, "not valid YAML: %s", se.Message)
		}
		return fail(nil, "not valid YAML")
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue
		}
		if node != nil {
			return fail(doc.Body.GetToken(), "a second document; write one")
		}
		node = doc.Body
	}
	if node == nil {
		return fail(nil, "the file is empty; write multi-db: with patterns: and replica-template: under it")
	}
	return node, nil
}

// unsupported finds the first token that a configuration has no use for.
func unsupported(tokens token.Tokens) (*token.Token, string) {
	keys, depth := 0, 0
	for i, tk := range tokens {
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return tk, "anchors and aliases are not supported; write the value out (in quotes if it begins with & or *)"
		case token.TagType:
			return tk, "tags are not supported; write the value alone (in quotes if it begins with !)"
		case token.DirectiveType:
			return tk, "directives are not supported"
		case token.MappingKeyType:
			return tk, "explicit keys are not supported; write key: value"
		case token.SequenceEntryType:
			if i > 0 && tokens[i-1].Type == token.SequenceEntryType {
				return tk, "lists of lists are not supported"
			}
		case token.MappingValueType:
			if keys++; keys > maxKeys {
				return tk, fmt.Sprintf("more than %d keys; is this a multidb configuration?", maxKeys)
			}
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				return tk, "nested too deeply"
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
	}
	return nil, ""
}

// invalidByte returns the offset of the first byte that is no text, or -1.
func invalidByte(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
