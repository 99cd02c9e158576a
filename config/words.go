package config

import (
	"log/slog"
	"regexp"
	"strings"
)

var (
	// inBoth is what the library says where it names the key itself, beside the option.
	inBoth = regexp.MustCompile(`\bWith[A-Z]\w*(?:; | \()([a-z-]+) in a configuration\)?`)
	named  = regexp.MustCompile(`\b(?:multidb\.)?(With[A-Z]\w*|(?:S3Config|FleetLogConfig|DrillOptions)\.[A-Z]\w*)\b`)
	humps  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// Words puts a message of the library into the words of who wrote a configuration: its keys
// instead of the names of options and of their fields, as far as it has a key for them.
func Words(message string) string {
	message = inBoth.ReplaceAllStringFunc(message, func(both string) string {
		key := inBoth.FindStringSubmatch(both)[1]
		if strings.Contains(both, ";") && strings.HasSuffix(both, ")") {
			return key + ")" // which was opened before
		}
		return key
	})
	return named.ReplaceAllStringFunc(message, func(word string) string {
		name := strings.TrimPrefix(word, "multidb.")
		of, field, _ := strings.Cut(name, ".")
		key := ""
		switch of {
		case "WithS3":
			key = "replica-template"
		case "S3Config":
			key = libraryName(field)
		case "FleetLogConfig":
			key = fieldKey("fleet-log", field, fleetLogKeys(nil))
		case "DrillOptions":
			key = fieldKey("drills", field, drillKeys(nil))
		default:
			key = libraryName(name)
		}
		if key == "" {
			return word
		}
		return key
	})
}

// fieldKey is the key of a field, which is called as the field is.
func fieldKey(section, field string, keys []key) string {
	name := strings.ToLower(humps.ReplaceAllString(field, "$1-$2"))
	for _, k := range keys {
		if k.name == name {
			return section + "." + name
		}
	}
	return ""
}

// LogWords is the ReplaceAttr of a slog.HandlerOptions that has errors logged as Words says
// them.
func LogWords(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(Words(err.Error()))
	}
	return a
}
