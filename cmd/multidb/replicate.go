package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/internal/control"
	"github.com/multidb-go/multidb/multidbhttp"
)

func replicateCommand() *command {
	return &command{
		name:  "replicate",
		args:  "[-config FILE]",
		short: "replicate the databases of a configuration until it is told to stop",
		long: `
Runs in the foreground and logs to standard error. SIGINT or SIGTERM makes it
ship what is left and end with 0; with 1 if something is not at the replica by
then, which it names: the next start goes on with it. A second signal ends it
at once.

-once ships what is not at the replica yet, prints one line about it and ends with 0, or
with 1 if something could not be shipped or listed: for cron, and for a container that
is about to go.

SIGHUP makes it read the configuration again: all of it, also patterns and policies.
It ships what is left, stops, and starts with the new one. A configuration that is
wrong, or does not start, changes nothing: the log says where it is wrong, and the
former one goes on.

It holds the state directory against a second one and serves a socket there,
for status, ls and what changes something. A state directory that others can write to is refused.

With -listen, or listen: in the configuration, it also serves a page for people, metrics
for Prometheus, /healthz, /readyz and an API, and does by them what -listen-verbs allows.
An address that other machines can reach needs a token.`,
		flags: func(fs *flag.FlagSet) action {
			var s sourceFlags
			s.addConfig(fs)
			var listen listenFlags
			listen.add(fs)
			socket := fs.Bool("socket", true, "serve status, ls and what changes something on a socket in the state directory")
			once := fs.Bool("once", false, "ship what is not at the replica yet, and end; no socket is served")
			patience := fs.Duration("shutdown-timeout", 30*time.Second, "how long to ship what is left when it is told to stop")
			return func(ctx context.Context, e *env, args []string) error {
				if err := operands(args, 0, 0); err != nil {
					return err
				}
				if *patience <= 0 {
					return usagef("-shutdown-timeout is %v; want a duration above zero", *patience)
				}
				if *once && listen != (listenFlags{}) {
					return usagef("-once and -listen do not go together: -once ends when everything is shipped")
				}
				return replicate(ctx, e, &s, serving{socket: *socket && !*once, port: !*once, listen: listen}, *once, *patience)
			}
		},
	}
}

func replicate(ctx context.Context, e *env, s *sourceFlags, on serving, once bool, patience time.Duration) error {
	hangups := reloadSignals()
	logger := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{ReplaceAttr: config.LogWords}))
	next := func() (*service, error) {
		c, err := s.read(e)
		if err != nil {
			return nil, err
		}
		return newService(c, on, logger)
	}
	r, err := next()
	if err != nil {
		return err
	}
	logger.Info("starting", "config", r.config)
	if err := r.start(ctx); err != nil {
		return err
	}
	if once {
		return shipOnce(ctx, e, r.m, logger, patience)
	}
	logger.Info("replicating", "config", r.config, "databases", r.m.Stats().Databases, "state", r.dir)
	check(ctx, r.config.Replica, logger)
	r, left := reloads(ctx, r, hangups, next)
	if r != nil { // else everything is closed
		logger.Info("stopping: shipping what is left", "reason", context.Cause(ctx))
		// The first signal has ended ctx; from here on another one kills.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		left = r.close(bounded)
	}
	if left != nil {
		return stopped{left}
	}
	logger.Info("stopped: everything is at the replica")
	return nil
}

// serving is where replicate answers.
type serving struct {
	socket bool // in the state directory
	port   bool // at the address that listen or the configuration says, if one does
	listen listenFlags
}

// service is a Manager that replicates what a configuration says, with its socket and its port.
type service struct {
	config *config.Config
	dir    string // of its state
	on     serving
	logger *slog.Logger
	m      *multidb.Manager
	server *control.Server // nil: none

	where  *config.Listen // nil: there is no port
	events *multidbhttp.Events
	port   *port // nil: it is not open
}

// newService makes one. It says everything that is wrong with the configuration by itself.
func newService(c *config.Config, on serving, logger *slog.Logger) (*service, error) {
	r := &service{config: c, on: on, logger: logger, events: &multidbhttp.Events{}}
	opts, err := c.Options()
	if err != nil {
		return nil, err
	}
	if on.port {
		if r.where, err = on.listen.over(c.Listen()); err != nil {
			return nil, err
		}
	}
	if r.where != nil {
		opts = append(opts, multidb.WithObserver(r.events.Observe))
	}
	// First, so that what the configuration says of the log counts.
	if r.m, err = multidb.New(append([]multidb.Option{multidb.WithLogger(logger)}, opts...)...); err != nil {
		return nil, err
	}
	if r.dir, err = stateDirOf(c); err != nil {
		return nil, err
	}
	if err := control.CheckDir(r.dir); on.socket && err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w, or give -socket=false", err)
	}
	return r, nil
}

// start starts it. If that fails, nothing of it runs. The port answers first: /readyz says
// that the Manager starts.
func (r *service) start(ctx context.Context) (err error) {
	if r.where != nil {
		if r.port, err = openPort(ctx, r.where, r.m, r.events, r.logger); err != nil {
			return err
		}
		r.port.serve(r.logger)
		defer func() {
			if err != nil {
				err = errors.Join(err, r.port.close())
			}
		}()
	}
	if err := r.m.Start(ctx); errors.Is(err, multidb.ErrInUse) {
		return fmt.Errorf("another replicate works on this configuration%s: state directory %s is in use", other(ctx, r.dir), r.dir)
	} else if err != nil {
		return err
	}
	if r.server, err = serve(r.on.socket, r.dir, r.config, r.m, r.logger); err != nil {
		return errors.Join(err, r.m.Close(ctx))
	}
	return nil
}

// close ships what is left, while the socket and the port still answer, and ends them.
func (r *service) close(ctx context.Context) error { return errors.Join(r.m.Close(ctx), r.hangUp(ctx)) }

// hangUp ends the socket, and last the port, where /readyz says that it stops.
func (r *service) hangUp(ctx context.Context) (err error) {
	if r.server != nil {
		err = r.server.Close(ctx)
	}
	if r.port != nil { // if it failed before, that was logged then
		err = errors.Join(err, r.port.close())
	}
	return err
}

// stopped is a failure of replicate while it stops. The signal that stopped it is not
// its cause.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

// other names the process that has the state directory, if it answers.
func other(ctx context.Context, dir string) string {
	c, err := control.Dial(ctx, dir)
	if err != nil {
		return ""
	}
	defer c.Close()
	f, err := c.Fleet(ctx, time.Minute)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d, since %s)", f.PID, showTime(f.Started))
}

func serve(socket bool, dir string, c *config.Config, m *multidb.Manager, logger *slog.Logger) (*control.Server, error) {
	if !socket {
		return nil, nil
	}
	return control.Serve(dir, &served{m: m, node: nodeName(c), replica: c.Replica, locate: locator(c), place: c.String(), log: c.FleetLog(), drills: c.Drills() != nil, started: time.Now(), logger: logger}, logger)
}

// locator is how the patterns of a configuration make a database of an ID.
func locator(c *config.Config) func(multidb.ID) (multidb.Database, bool) {
	if l, ok := c.Discoverer().(multidb.DiscovererLocator); ok {
		return l.Locate
	}
	return func(multidb.ID) (multidb.Database, bool) { return multidb.Database{}, false }
}

// check reports at once that a replica cannot be reached; replication keeps trying.
func check(ctx context.Context, replica func() (multidb.ReplicaFactory, error), logger *slog.Logger) {
	f, err := replica()
	if err != nil {
		logger.Warn("nothing is replicated", "reason", err)
		return
	}
	if c, ok := f.(multidb.ReplicaChecker); ok {
		if err := c.Check(ctx); err != nil && ctx.Err() == nil {
			logger.Warn("the replica does not work; trying on", "err", err)
		}
	}
}

// served is a Manager on the control socket.
type served struct {
	m       *multidb.Manager
	replica func() (multidb.ReplicaFactory, error)
	locate  func(multidb.ID) (multidb.Database, bool) // where a database of an ID would be
	place   string
	drills  bool
	node    string // of a cluster; empty: it is none
	log     string // the directory of the fleet log; empty: none
	started time.Time
	logger  *slog.Logger
}

func (s *served) Fleet(maxLag time.Duration) control.Fleet {
	st := s.m.Stats()
	f := control.Fleet{
		PID: os.Getpid(), Version: version(), Started: s.started, Replica: s.place,
		Databases: st.Databases, Hot: st.Hot, Warm: st.Warm, Cold: st.Cold, Failing: st.Failing, Stopped: st.Stopped,
		Pending: st.Pending, Ignored: st.Ignored,
		Transactions: st.Transactions, Bytes: st.Bytes, Requests: st.Requests.Total(),
		LagP50: st.LagP50, LagP99: st.LagP99,
		LocalBytes: st.LocalBytes, ReplicaBytes: st.ReplicaBytes, ReplicaObjects: st.ReplicaObjects, ReplicaUnsized: st.ReplicaUnsized,
		MonthlyCost: multidb.S3StandardStorage().Monthly(st.ReplicaBytes),
	}
	if s.node != "" {
		f.Node, f.Shards = s.node, s.m.Nodes().Served
	}
	if s.drills {
		d := control.Drills(st.Drills)
		f.Drills = &d
	}
	for reason, n := range st.Unwell {
		if n > 0 {
			if f.Unwell == nil {
				f.Unwell = map[string]int64{}
			}
			f.Unwell[multidb.Reason(reason).String()] = n
		}
	}
	if s.log != "" {
		f.FleetLog = fleetLog(s.log, st.FleetLog)
	}
	var worst []multidb.Status
	f.Healthy, worst = s.m.Healthy(maxLag)
	if err := s.m.ScanErr(); err != nil {
		f.Healthy, f.ScanError = false, words(err.Error())
	}
	if !f.Healthy {
		f.NotWell = s.notWell(maxLag, worst)
	}
	for i, w := range worst {
		switch {
		case w.ID != "":
			f.Worst = append(f.Worst, s.tenant(w))
		case f.FleetLog != nil && (i > 0 || f.ScanError == ""): // that of the listing comes before that of the log
			f.FleetLog.Error = words(w.Err.Error())
		}
	}
	return f
}

func fleetLog(path string, s multidb.FleetLogStats) *control.FleetLog {
	return &control.FleetLog{
		Path: path, Epoch: s.Epoch, Objects: s.Objects, Files: s.Files, Bytes: s.Bytes, Queued: s.Queued, Pending: s.Pending,
		Tails: s.Tails, TailBytes: s.TailBytes, Unpacks: s.Unpacks, Fenced: s.Fenced,
	}
}

func (s *served) Tenants() iter.Seq[control.Tenant] {
	return func(yield func(control.Tenant) bool) {
		for st := range s.m.All() {
			if !yield(s.tenant(st)) {
				return
			}
		}
	}
}

func (s *served) Tenant(id string) (control.Tenant, error) {
	st, err := s.m.Status(multidb.ID(id))
	if errors.Is(err, multidb.ErrNotFound) {
		return control.Tenant{}, fmt.Errorf("%w: %w", control.ErrNotFound, err)
	} else if errors.Is(err, multidb.ErrNotOwner) {
		return control.Tenant{}, fmt.Errorf("%w: %s", control.ErrNotOwner, strings.TrimPrefix(words(cause(err)), multidb.ErrNotOwner.Error()+": "))
	} else if err != nil {
		return control.Tenant{}, err
	}
	return s.tenant(st), nil
}

func (v *served) tenant(s multidb.Status) control.Tenant {
	t := control.Tenant{
		ID: string(s.ID), Path: s.Path, Replica: s.Prefix, Tier: s.Tier.String(),
		SyncedAt: s.SyncedAt, LastWrite: s.LastWrite, Lag: s.Lag, LagBytes: s.LagBytes, Pending: s.PendingSince, WALSize: s.WALSize, WALPos: s.WALPos,
		ErrSince: s.ErrSince, Failures: s.Failures, FleetLog: v.log != "",
		LocalBytes: s.LocalBytes, ReplicaBytes: s.ReplicaBytes, ReplicaObjects: s.ReplicaObjects, ReplicaSized: s.ReplicaSized,
		MonthlyCost: s.MonthlyCost(multidb.S3StandardStorage()), ProvedAt: s.ProvedAt, Evicted: !s.Resident,
	}
	if s.ProvedErr != nil {
		t.ProvedError = words(s.ProvedErr.Error())
	}
	if s.TXID != 0 {
		t.TXID = s.TXID.String()
	}
	if s.UnpackedTXID != 0 {
		t.Unpacked = s.UnpackedTXID.String()
	}
	if s.Err != nil {
		t.Error, t.Reason = words(s.Err.Error()), multidb.ReasonOf(s.Err).String()
	}
	return t
}

// version is that of the module, with the commit where it was built from a
// checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	if v == "(devel)" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += " " + s.Value
			}
		}
	}
	return v
}
