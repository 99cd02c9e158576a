//go:build !failpoint

package failpoint

import (
	"errors"
	"testing"
)

func TestAPlaceThatIsNotCompiledInDoesNothing(t *testing.T) {
	t.Setenv("MULTIDB_FAILPOINT", "x@1")
	Hit("x")
	if err := Err("x", nil); err != nil {
		t.Fatal(err)
	}
	want := errors.New("its own")
	if err := Err("x", want); err != want {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { Hit("x"); _ = Err("x", nil) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
