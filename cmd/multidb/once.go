package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/multidb-go/multidb"
)

// shipOnce ships everything that is not at the replica, and closes the Manager, which has
// just started. A signal leaves it patience for the rest.
func shipOnce(ctx context.Context, e *env, m *multidb.Manager, logger *slog.Logger, patience time.Duration) error {
	unlisted := m.ScanErr()
	known := m.Stats().Databases
	if err := m.SyncAll(ctx); err != nil {
		logger.Warn("not everything could be shipped; trying again", "err", err)
	}
	bounded, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(fmt.Errorf("%w, and %v have passed", context.Cause(ctx), patience))
		case <-bounded.Done():
		}
	})()
	err := m.Close(bounded)
	_, printed := fmt.Fprintf(e.stdout, "%d databases, %d shipped, %d failed\n", known, m.Stats().Shipped, failedIn(err))
	if unlisted != nil {
		unlisted = fmt.Errorf("not everything could be listed: %w", unlisted)
	}
	if err = errors.Join(err, unlisted); err != nil {
		return stopped{errors.Join(err, printed)}
	}
	return printed
}

// failedIn is how many databases an error of Close is about.
func failedIn(err error) int {
	ids := map[multidb.ID]bool{}
	var walk func(error)
	walk = func(err error) {
		if of, ok := err.(*multidb.Error); ok {
			ids[of.ID] = true
			return
		}
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return len(ids)
}
