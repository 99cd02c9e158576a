package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
)

func versionCommand() *command {
	return &command{
		name:  "version",
		short: "print the version",
		flags: func(fs *flag.FlagSet) action {
			asJSON := fs.Bool("json", false, "write JSON")
			return func(_ context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				if *asJSON {
					return e.fields(true, map[string]string{"version": version(), "go": runtime.Version()})
				}
				_, err := fmt.Fprintf(e.stdout, "multidb %s, %s\n", version(), runtime.Version())
				return err
			}
		},
	}
}
