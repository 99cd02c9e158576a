package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/multidb-go/multidb"
)

func configCheckCommand() *command {
	return &command{
		name:  "config check",
		args:  "[flags] [FILE]",
		short: "say whether a configuration is right, and what it means",
		long: `
Every error is told, with line and column; the exit code is then 2. With
-connect it is also proved that the replica can be reached and written to,
and told how many databases the patterns find now.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addConfig(fs)
			asJSON := addJSON(fs)
			connect := fs.Bool("connect", false, "try the replica and the patterns as well")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 1); err != nil {
					return err
				}
				if len(args) == 1 {
					if s.config != "" {
						return usagef("FILE and -config exclude each other")
					}
					s.config = args[0]
				}
				return configCheck(ctx, e, &s, *connect, asJSON.use(e.stdout))
			}
		},
	}
}

func configCheck(ctx context.Context, e *env, s *sourceFlags, connect, asJSON bool) error {
	c, err := s.read(e)
	if err != nil {
		return err
	}
	dir, err := stateDirOf(c)
	if err != nil {
		return err
	}
	v := struct {
		File      string   `json:"file"`
		Enabled   bool     `json:"enabled"`
		Patterns  []string `json:"patterns"`
		StateDir  string   `json:"state_dir"`
		FleetLog  string   `json:"fleet_log,omitempty"` // its directory at the replica
		Databases *int     `json:"databases,omitempty"`
	}{s.config, c.Enabled(), c.Patterns(), dir, c.FleetLog(), nil}
	cells := []string{"configuration", show(c.String()), "state directory", show(dir)}
	if connect {
		if err := tryReplica(ctx, c.Replica); err != nil {
			return err
		}
		n := 0
		for _, err := range c.Discoverer().Discover(ctx) {
			if err != nil {
				return fmt.Errorf("the patterns: %w", err)
			}
			n++
		}
		v.Databases = &n
		cells = append(cells, "replica", "works", "databases", fmt.Sprint(n))
	}
	return e.fields(asJSON, v, slices.Concat(cells, []string{"verdict", "right"})...)
}

func tryReplica(ctx context.Context, replica func() (multidb.ReplicaFactory, error)) error {
	f, err := replica()
	if errors.Is(err, multidb.ErrNoReplica) {
		return nil
	} else if err != nil {
		return err
	}
	if c, ok := f.(multidb.ReplicaChecker); ok {
		if err := c.Check(ctx); err != nil {
			return fmt.Errorf("the replica: %w", err)
		}
	}
	return nil
}
