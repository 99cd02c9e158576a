package watch

import (
	"errors"
	"testing"
	"testing/synctest"
)

func TestInABubbleNothingWaitsForTheSystem(t *testing.T) {
	open := func() error {
		s, err := Open()
		if err == nil {
			err = s.Close()
		}
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		if err := open(); !errors.Is(err, ErrVirtual) {
			t.Errorf("in a bubble: %v, want ErrVirtual", err)
		}
	})
	if err := open(); err != nil {
		t.Errorf("outside of a bubble: %v", err)
	}
}
