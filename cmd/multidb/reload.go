package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// reloadSignals returns where SIGHUPs arrive, which do nothing else from then on, until the
// process ends. Those that arrive while one is waiting are one with it.
func reloadSignals() <-chan os.Signal {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// reloads takes up what the configuration says at each signal, until ctx ends. It returns what
// runs then. Nothing does if ctx ended between two configurations: then the error is why not
// everything is at the replica, if so; or if neither of two starts any more, which is the error.
func reloads(ctx context.Context, r *service, hangups <-chan os.Signal, next func() (*service, error)) (*service, error) {
	for {
		select {
		case <-ctx.Done():
			return r, nil
		case <-hangups:
		}
		to, err := next()
		if err != nil {
			r.logger.Error("kept the configuration: the new one is wrong", "err", err)
			continue
		}
		r.logger.Info("reloading: shipping what is left", "config", to.config)
		left := r.m.Close(ctx)
		if left != nil && ctx.Err() != nil {
			return r, nil // closing it goes on
		}
		left = errors.Join(left, r.hangUp(ctx))
		if left != nil {
			r.logger.Warn("not everything is at the replica; the next start goes on with it", "err", left)
		}
		if r, err = r.replace(ctx, to); err != nil && ctx.Err() != nil {
			return nil, left
		} else if err != nil {
			return nil, err
		}
	}
}

// replace starts to in the place of r, which is closed, and returns what runs: r's configuration
// again where to does not start. The error is that of both.
func (r *service) replace(ctx context.Context, to *service) (*service, error) {
	failed := to.start(ctx)
	if failed == nil {
		r.logger.Info("reloaded", "config", to.config, "databases", to.m.Stats().Databases, "state", to.dir)
		check(ctx, to.config.Replica, r.logger)
		return to, nil
	}
	if ctx.Err() != nil {
		return nil, failed
	}
	again, err := newService(r.config, r.on, r.logger) // a Manager starts once
	if err == nil {
		err = again.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	r.logger.Error("kept the configuration: the new one does not start", "err", failed)
	return again, nil
}
