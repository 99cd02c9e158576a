package conduct

import (
	"errors"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/policy"
	"github.com/multidb-go/multidb/internal/registry"
)

// TestTheClockOfAgesRemembersForTheLongestRetentionThatWasAskedFor: a clock that was set
// forward would otherwise make the history of one tenant look old.
func TestTheClockOfAgesRemembersForTheLongestRetentionThatWasAskedFor(t *testing.T) {
	retention, refused := 720*time.Hour, error(nil)
	c := New(Config{Age: &fsid.AgeClock{Keep: 24 * time.Hour}, Now: time.Now, Workers: 1, Levels: levels.Policy{Retention: 24 * time.Hour},
		Policy: func(registry.Database) (p policy.Policy, err error) {
			p.Levels.Retention = retention
			return p, refused
		}})
	if a := c.AskPolicy(registry.Database{}); !a.Given || c.cfg.Age.Keep != retention || c.levels(a).Retention != retention {
		t.Errorf("%+v; kept for %v", a, c.cfg.Age.Keep)
	}
	retention = time.Hour
	c.AskPolicy(registry.Database{})
	if c.cfg.Age.Keep != 720*time.Hour {
		t.Errorf("kept for %v", c.cfg.Age.Keep)
	}
	retention, refused = 9000*time.Hour, errors.New("refused")
	if a := c.AskPolicy(registry.Database{}); c.cfg.Age.Keep != 720*time.Hour || c.levels(a).Retention != 24*time.Hour {
		t.Errorf("%+v; kept for %v", a, c.cfg.Age.Keep)
	}
}

func TestWithoutAPolicyNobodyIsAsked(t *testing.T) {
	c := New(Config{Now: time.Now, Workers: 1, Levels: levels.Policy{Retention: time.Hour}})
	if a := c.AskPolicy(registry.Database{}); a.Given || c.levels(a).Retention != time.Hour {
		t.Errorf("%+v", a)
	}
	c.SetPolicy(nil, registry.Database{})
}
