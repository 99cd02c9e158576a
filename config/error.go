package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/multidb-go/multidb"
)

// ErrDisabled is returned by Load and Options when the file says enabled: false.
// The caller decides what that means; going on without replication, as if
// nothing had been configured, is for it to say aloud.
var ErrDisabled = errors.New("multi-db.enabled is false")

// Error is one thing wrong with a configuration. It is multidb.ErrInvalidOption
// to errors.Is, unless the file could not be read. It shows no secret.
type Error struct {
	File         string // as given to Load, Read or Parse
	Line, Column int    // from 1; 0 if it is about the whole file
	Key          string // "replica-template.bucket"; empty if it is about none
	Err          error
}

// Error returns "file:line:column: key: cause" on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errInvalid is a cause of which there is nothing more to say than its text.
type errInvalid string

func (e errInvalid) Error() string        { return string(e) }
func (e errInvalid) Is(target error) bool { return target == multidb.ErrInvalidOption }

// maxErrors is how many are worth reading: a file of another kind has thousands.
const maxErrors = 20

// joinErrors joins errs in the order of the file.
func joinErrors(errs []*Error) error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var all []error
	for i, e := range errs {
		if i == maxErrors {
			all = append(all, &Error{File: e.File, Err: errInvalid(fmt.Sprintf("and %d errors more", len(errs)-i))})
			break
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}
