package s3

import (
	"os"
	"testing"
)

// unsetenv unsets a variable for the duration of the test.
func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // restores it
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
