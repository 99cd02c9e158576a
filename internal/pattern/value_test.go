package pattern

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Injective: the value can be computed back from what it became.
func TestTwoValuesNeverBecomeOnePath(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	alphabet := []string{"%", "F", "2", "5", "a", "\xff", "\xc3", "\xa9", "\xe2", "\x82", "\xac", "é", "€", "\ufffd", " ", "?"}
	for range 20_000 {
		var value strings.Builder
		for range 1 + r.IntN(8) {
			value.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		var escaped strings.Builder
		escapeValue(&escaped, value.String())
		back, err := url.PathUnescape(escaped.String())
		if err != nil || back != value.String() {
			t.Fatalf("seed %d: %q became %q, which reads back as %q, %v", seed, value.String(), escaped.String(), back, err)
		}
		if !utf8.ValidString(escaped.String()) {
			t.Fatalf("seed %d: %q became %q, which is not UTF-8", seed, value.String(), escaped.String())
		}
	}
}
