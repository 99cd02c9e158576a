package fsid

import (
	"testing"
	"time"
)

func TestAgesFollowTheSlowerClockUntilTheJumpIsOld(t *testing.T) {
	c := &AgeClock{Keep: time.Hour}
	base := time.Now()
	c.Trusted(base)
	c.stepped(base, 48*time.Hour)
	if got := c.Trusted(base); got.Sub(base) != -48*time.Hour {
		t.Errorf("after a jump of two days: %v", got.Sub(base))
	}
	// A step back takes it back, but not one that came before.
	c.stepped(base, -50*time.Hour)
	if got := c.Trusted(base); !got.Equal(base) {
		t.Errorf("after it was set right: %v", got.Sub(base))
	}
	c.stepped(base, 2*time.Hour)
	if got := c.Trusted(base); got.Sub(base) != -2*time.Hour {
		t.Errorf("forward after back: %v", got.Sub(base))
	}
	// What is adjusted little by little is no jump.
	c.stepped(base, time.Second)
	if got := c.Trusted(base); got.Sub(base) != -2*time.Hour {
		t.Errorf("after an adjustment: %v", got.Sub(base))
	}
	later := base.Add(61 * time.Minute) // by both clocks
	if got := c.Trusted(later); !got.Equal(later) {
		t.Errorf("an hour after the last jump: %v", got.Sub(later))
	}
}
