package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/multidb-go/multidb/internal/nearest"
)

// key is one key of a mapping.
type key struct {
	name     string
	sets     string // the option or the field that it sets; see decoder.library
	required bool
	secret   bool // nothing of its value may be shown
	read     func(d *decoder, v value)
}

// value is what a key has.
type value struct {
	node   ast.Node
	key    *token.Token // nil for the document
	path   string       // of the key: "replica-template.bucket"
	secret bool
}

// decoder walks the parsed file. All errors are collected, so that they can be
// mended together.
type decoder struct {
	file string
	env  lookupFunc
	errs []*Error

	vars    []variable              // all that were put in
	secrets []string                // the values of secret keys
	places  map[string]*token.Token // of keys, by what they set
	names   map[string]string       // of keys, by what they set
}

func (d *decoder) fail(tk *token.Token, path, format string, args ...any) {
	e := &Error{File: d.file, Key: path, Err: errInvalid(fmt.Sprintf(format, args...))}
	if tk != nil && tk.Position != nil {
		e.Line, e.Column = tk.Position.Line, tk.Position.Column
	}
	d.errs = append(d.errs, e)
}

func (d *decoder) failValue(v value, format string, args ...any) {
	d.fail(v.node.GetToken(), v.path, format, args...)
}

// entries returns the keys and values of a mapping.
func (d *decoder) entries(v value) ([]*ast.MappingValueNode, bool) {
	switch n := v.node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	case *ast.NullNode:
		d.fail(v.key, v.path, "nothing stands under it")
	default:
		d.failValue(v, "want keys with values, not %s", kindOf(n))
	}
	return nil, false
}

// mapping reads the keys of v and reports those that are unknown, missing or
// there twice. elsewhere tells where a key that is not one of keys belongs.
func (d *decoder) mapping(v value, keys []key, elsewhere map[string]string) {
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	seen := map[string]*token.Token{}
	for _, e := range entries {
		tk := e.Key.GetToken()
		name := tk.Value
		path := join(v.path, name)
		i := slices.Index(names, name)
		switch {
		case i < 0:
			d.fail(tk, v.path, "%s", unknownKey(name, names, elsewhere))
		case seen[name] != nil:
			d.fail(tk, path, "a second time; the first is in line %d", seen[name].Position.Line)
		default:
			seen[name] = tk
			k := keys[i]
			if k.sets != "" {
				d.places[k.sets], d.names[k.sets] = tk, path
			}
			k.read(d, value{node: e.Value, key: tk, path: path, secret: k.secret})
		}
	}
	for _, k := range keys {
		if k.required && seen[k.name] == nil {
			d.fail(v.key, v.path, "%s is missing", k.name)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func unknownKey(name string, names []string, elsewhere map[string]string) string {
	shown := name
	if r := []rune(name); len(r) > 40 {
		shown = string(r[:40]) + "…"
	}
	if place, ok := elsewhere[name]; ok && !slices.Contains(names, name) {
		return fmt.Sprintf("unknown key %q here; it belongs %s", shown, place)
	}
	if near := nearest.Names(strings.ReplaceAll(name, "_", "-"), names, 1); len(near) > 0 {
		return fmt.Sprintf("unknown key %q; did you mean %s?", shown, near[0])
	}
	return fmt.Sprintf("unknown key %q; there are %s", shown, strings.Join(names, ", "))
}

// text returns a string with its variables put in. written is what the file
// has, to be quoted in errors.
func (d *decoder) text(v value, want string) (s, written string, ok bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		written = n.Value
	case *ast.LiteralNode:
		written = n.Value.Value
	case *ast.NullNode:
		d.failValue(v, "it has no value; write %s, or remove the key", want)
		return "", "", false
	default:
		d.failValue(v, "want %s, not %s", want, kindOf(n))
		return "", "", false
	}
	s, vars, err := expand(written, d.env)
	if err != nil {
		d.failValue(v, "%v", err)
		return "", "", false
	}
	d.vars = append(d.vars, vars...)
	if v.secret {
		written = "the value"
		d.secrets = append(d.secrets, s)
	} else {
		written = quote(written)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		names := make([]string, len(vars))
		for i, vr := range vars {
			names[i] = vr.name
		}
		if len(names) > 0 {
			d.failValue(v, "it has a control character, such as a line break; see what %s ends in", strings.Join(names, ", "))
		} else {
			d.failValue(v, "it has a control character, such as a line break")
		}
		return "", "", false
	}
	return s, written, true
}

func quote(s string) string {
	if r := []rune(s); len(r) > 80 {
		return strconv.Quote(string(r[:80])) + "…"
	}
	return strconv.Quote(s)
}

// kindOf says what a node is, without its value.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.IntegerNode:
		return "a number (in quotes it is text)"
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a decimal number (in quotes it is text)"
	case *ast.BoolNode:
		return "true or false (in quotes it is text)"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.NullNode:
		return "nothing"
	}
	return "something else"
}

// expanded reports whether a text stands for itself only after a variable was
// put in; only then may it be a number or a boolean.
func expanded(n ast.Node) bool {
	s, ok := n.(*ast.StringNode)
	return ok && strings.Contains(s.Value, "${")
}

func text(set func(string)) func(*decoder, value) {
	return func(d *decoder, v value) {
		if s, _, ok := d.text(v, "text"); ok {
			set(s)
		}
	}
}

// requiredText is text that must not be empty.
func requiredText(set func(string)) func(*decoder, value) {
	return func(d *decoder, v value) {
		s, written, ok := d.text(v, "text")
		switch {
		case !ok:
		case s == "" && expanded(v.node):
			d.failValue(v, "%s is empty", written)
		case s == "":
			d.failValue(v, "it is empty")
		default:
			set(s)
		}
	}
}

func oneOf(choices []string, set func(string)) func(*decoder, value) {
	want := strings.Join(choices, ", ")
	return func(d *decoder, v value) {
		s, written, ok := d.text(v, "one of "+want)
		if !ok {
			return
		}
		if !slices.Contains(choices, s) {
			d.failValue(v, "%s is not one of %s", written, want)
			return
		}
		set(s)
	}
}

func boolean(set func(bool)) func(*decoder, value) {
	return func(d *decoder, v value) {
		if n, ok := v.node.(*ast.BoolNode); ok {
			set(n.Value)
			return
		}
		s, written, ok := d.text(v, "true or false")
		switch {
		case !ok:
		case expanded(v.node) && s == "true":
			set(true)
		case expanded(v.node) && s == "false":
			set(false)
		default:
			d.failValue(v, "%s is not true or false (without quotes)", written)
		}
	}
}

// duration reads one of at least least, which is 0 or 1.
func duration(least time.Duration, set func(time.Duration)) func(*decoder, value) {
	const want = "a duration such as 500ms, 30s or 24h"
	return func(d *decoder, v value) {
		if n, ok := v.node.(*ast.IntegerNode); ok {
			switch {
			case n.GetToken().Value == "0" && least == 0:
				set(0)
			case n.GetToken().Value == "0":
				d.failValue(v, "0 is not above zero; want %s", want)
			default:
				d.failValue(v, "%s has no unit; write for example %[1]ss", n.GetToken().Value)
			}
			return
		}
		s, written, ok := d.text(v, want)
		if !ok {
			return
		}
		t, err := time.ParseDuration(s)
		switch {
		case err != nil && outOfRange(s):
			d.failValue(v, "%s is out of range; a duration is at most 292 years (2562047h)", written)
		case err != nil && strings.HasSuffix(s, "d"):
			d.failValue(v, "%s is not a duration: there are no days; write hours, 720h for 30 days", written)
		case err != nil:
			d.failValue(v, "%s is not a duration; want for example 500ms, 30s or 24h", written)
		case t < 0:
			d.failValue(v, "%s is negative; want %s", written, want)
		case t < least:
			d.failValue(v, "%s is not above zero; want %s", written, want)
		default:
			set(t)
		}
	}
}

// outOfRange reports whether s would be a duration if it were smaller: the
// standard library's error does not tell.
func outOfRange(s string) bool {
	small := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '0'
		}
		return r
	}, s)
	_, err := time.ParseDuration(small)
	return err == nil
}

func integer(least, most int64, set func(int64)) func(*decoder, value) {
	return func(d *decoder, v value) {
		n, written, ok := d.integer(v, "a whole number")
		switch {
		case !ok:
		case n < least || n > most:
			d.failValue(v, "%s is out of range; want %d to %d", written, least, most)
		default:
			set(n)
		}
	}
}

// integer returns a number as written in the file or in a variable.
func (d *decoder) integer(v value, want string) (n int64, written string, ok bool) {
	s, text := "", false
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		s = v.node.GetToken().Value
		written = s
	default:
		// A number that is too large is text to the lexer.
		if s, written, text = d.text(v, want); !text {
			return 0, "", false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.failValue(v, "%s is out of range", written)
	case text && !expanded(v.node):
		d.failValue(v, "%s is text; want %s, without quotes", written, want)
	case err != nil || strconv.FormatInt(n, 10) != s:
		// To YAML 010 is 8 or 10, and 1_000 is 1000 or text.
		d.failValue(v, "%s is not a whole number; write it with digits only, the first one not 0", written)
	default:
		return n, written, true
	}
	return 0, "", false
}

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// size reads a number of bytes of at least least.
func size(least int64, set func(int64)) func(*decoder, value) { return bytesOf(least, false, set) }

// sizeOrZero is size for a limit that 0 takes away.
func sizeOrZero(least int64, set func(int64)) func(*decoder, value) { return bytesOf(least, true, set) }

func bytesOf(least int64, zero bool, set func(int64)) func(*decoder, value) {
	const want = "a size in bytes, or such as 64MiB"
	return func(d *decoder, v value) {
		var (
			n       int64
			written string
		)
		if _, ok := v.node.(*ast.StringNode); ok {
			s, w, ok := d.text(v, want)
			if !ok {
				return
			}
			written = w
			unit, number := int64(1), s
			for _, u := range units {
				if before, ok := strings.CutSuffix(s, u.name); ok {
					unit, number = u.bytes, strings.TrimRight(before, " ")
				}
			}
			parsed, err := strconv.ParseInt(number, 10, 64)
			switch {
			case errors.Is(err, strconv.ErrRange), err == nil && (parsed > (1<<63-1)/unit || parsed < -(1<<63-1)/unit):
				d.failValue(v, "%s is out of range", written)
				return
			case err != nil || unit == 1 && !expanded(v.node):
				d.failValue(v, "%s is not a size; want a number of bytes without quotes, or one with KiB, MiB or GiB", written)
				return
			}
			n = parsed * unit
		} else {
			var ok bool
			if n, written, ok = d.integer(v, want); !ok {
				return
			}
		}
		switch {
		case n < least && zero && n != 0:
			d.failValue(v, "%s is too small; want 0, or at least %d bytes", written, least)
		case n < least && !zero:
			d.failValue(v, "%s is too small; want at least %d bytes", written, least)
		default:
			set(n)
		}
	}
}
