package conduct

import (
	"github.com/multidb-go/multidb/internal/fleet"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/registry"
)

// AskPolicy asks the application how a database is to be treated. No lock is held.
func (c *Conductor) AskPolicy(db registry.Database) fleet.Asked {
	if c.cfg.Policy == nil {
		return fleet.Asked{}
	}
	p, err := c.cfg.Policy(db)
	if err == nil {
		c.cfg.Age.KeepFor(p.Longest()) // before anything is deleted by it
	}
	return fleet.Asked{Given: true, Policy: p, Err: err}
}

// SetPolicy asks the application how a database that a listing has is to be treated.
func (c *Conductor) SetPolicy(e *fleet.Entry, db registry.Database) {
	if c.cfg.Policy != nil {
		c.fleet.SetPolicy(e, c.AskPolicy(db))
	}
}

// levels is what a prefix keeps by what the application said.
func (c *Conductor) levels(a fleet.Asked) levels.Policy {
	if !a.Given || a.Err != nil {
		return c.cfg.Levels
	}
	return a.Policy.Levels
}
