package config

import (
	"fmt"
	"strings"
)

// lookupFunc is os.LookupEnv, or a stand-in.
type lookupFunc func(name string) (string, bool)

// variable is one that was put into a value.
type variable struct{ name, value string }

// expand puts variables into s. The error shows s never, and no value.
func expand(s string, env lookupFunc) (string, []variable, error) {
	var (
		b    strings.Builder
		vars []variable
	)
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String(), vars, nil
		}
		b.WriteString(s[:i])
		next := s[i+1]
		s = s[i+1:]
		switch next {
		case '$':
			b.WriteByte('$')
			s = s[1:]
		case '{':
			inside, rest, ok := strings.Cut(s[1:], "}")
			if !ok {
				return "", nil, fmt.Errorf("${ without a }; write ${NAME}, or $$ for a dollar sign")
			}
			name, fallback, optional := strings.Cut(inside, ":-")
			if !isName(name) {
				return "", nil, fmt.Errorf("${…} without a variable's name; write ${NAME} or ${NAME:-text}, or $$ for a dollar sign")
			}
			value, set := env(name)
			switch {
			case value != "":
				vars = append(vars, variable{name, value})
			case optional:
				value = fallback
			case !set:
				return "", nil, fmt.Errorf("the variable %s is not set; set it, or write ${%s:-text} for what it is then", name, name)
			default:
				return "", nil, fmt.Errorf("the variable %s is empty; set it, or write ${%s:-text} for what it is then", name, name)
			}
			b.WriteString(value)
			s = rest
		default:
			b.WriteByte('$')
		}
	}
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
