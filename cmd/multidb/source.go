package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/internal/control"
	"github.com/multidb-go/multidb/internal/store/s3"
)

// sourceFlags say where backups are.
type sourceFlags struct {
	config   string
	stateDir string // of status and ls
	offline  bool

	dir, path string
	s3        multidb.S3Config
	fleetLog  string // "": as the configuration or the replica says
}

// noFleetLog is the value of -fleet-log that leaves fleet logs out.
const noFleetLog = "none"

// addConfig adds -config.
func (s *sourceFlags) addConfig(fs *flag.FlagSet) {
	fs.StringVar(&s.config, "config", "", "configuration `FILE`; default: $MULTIDB_CONFIG, else ./multidb.yaml")
}

// addStateDir adds -state-dir.
func (s *sourceFlags) addStateDir(fs *flag.FlagSet) {
	fs.StringVar(&s.stateDir, "state-dir", "", "state `DIR` of the running replicate; default: the configuration's")
}

// addReplica adds the flags of every command that reads a replica.
func (s *sourceFlags) addReplica(fs *flag.FlagSet) {
	s.addConfig(fs)
	fs.StringVar(&s.s3.Bucket, "bucket", "", "`NAME` of an S3 bucket to read instead of a configuration's replica")
	fs.StringVar(&s.dir, "dir", "", "`DIR` of a file replica to read instead")
	fs.StringVar(&s.path, "path", "", "`TEMPLATE` of a database's place in the bucket or directory,\n"+
		"such as litestream/{{project}}/{{database}}, or where to look for any.\nDefault: everywhere, for more requests")
	fs.StringVar(&s.s3.Endpoint, "endpoint", "", "`URL` of an S3-compatible store; default: $AWS_ENDPOINT_URL_S3, else AWS")
	fs.StringVar(&s.s3.Region, "region", "", "`REGION` of the bucket; default: $AWS_REGION")
	fs.StringVar(&s.s3.Profile, "profile", "", "`PROFILE` of the AWS configuration files; default: $AWS_PROFILE")
	fs.BoolVar(&s.s3.ForcePathStyle, "path-style", false, "put the bucket into the URL's path")
	fs.BoolVar(&s.s3.Anonymous, "anonymous", false, "send unsigned requests")
	fs.StringVar(&s.fleetLog, "fleet-log", "", "`PATH` of the fleet log's directory in the bucket or directory; none: read\n"+
		"the prefixes alone. Default: the configuration's, else what metadata.json\nnames, and fleet")
}

// addRunning adds the flags of the commands that ask a running replicate first.
func (s *sourceFlags) addRunning(fs *flag.FlagSet) {
	s.addReplica(fs)
	s.addStateDir(fs)
	fs.BoolVar(&s.offline, "offline", false, "ask the replica even where a replicate runs")
}

// source is a replica to read.
type source struct {
	factory    multidb.ReplicaFactory
	prefixes   multidb.ReplicaFactory // the same without its fleet log
	discoverer multidb.Discoverer     // of the configuration, or nil
	place      string
	byFlags    bool // not of a configuration
}

// byFlags reports whether the flags name a replica themselves.
func (s *sourceFlags) byFlags() bool { return s.s3.Bucket != "" || s.dir != "" }

func (s *sourceFlags) check() error {
	switch {
	case s.s3.Bucket != "" && s.dir != "":
		return usagef("-bucket and -dir exclude each other")
	case s.byFlags() && s.config != "":
		return usagef("-config excludes -bucket and -dir")
	case s.s3.Bucket == "" && (s.s3 != multidb.S3Config{}):
		return usagef("-endpoint, -region, -profile, -path-style and -anonymous need -bucket")
	case s.path != "" && !s.byFlags():
		return usagef("-path needs -bucket or -dir")
	}
	return nil
}

// template is -path as a template.
func (s *sourceFlags) template() string {
	if s.path != "" && strings.Contains(s.path, "{{") {
		return s.path
	}
	return strings.Trim(s.path, "/") + "/{{path}}"
}

// open opens the replica, to be read together with its fleet log.
func (s *sourceFlags) open(e *env) (*source, error) {
	src, log, err := s.openPrefixes(e)
	if err != nil {
		return nil, err
	}
	src.prefixes = multidb.IgnoreFleetLog(src.factory)
	if log = cmp.Or(s.fleetLog, log); log == noFleetLog {
		src.factory = src.prefixes
		src.place += ", without its fleet log"
		return src, nil
	}
	if _, ok := src.factory.(multidb.ReplicaObjects); !ok && log == "" {
		return src, nil
	}
	if src.factory, err = multidb.ReadFleetLog(src.factory, log); err != nil {
		return nil, usagef("-fleet-log: %v", err)
	}
	return src, nil
}

// openPrefixes opens the replica, and says where the configuration has its fleet log.
func (s *sourceFlags) openPrefixes(e *env) (src *source, fleetLog string, err error) {
	if err := s.check(); err != nil {
		return nil, "", err
	}
	switch {
	case s.s3.Bucket != "":
		cfg := s.s3
		cfg.Path = s.template()
		f, err := multidb.NewS3Replica(cfg)
		if err != nil {
			return nil, "", usagef("%v", err)
		}
		return &source{factory: f, place: "s3://" + path.Join(cfg.Bucket, s.path), byFlags: true}, "", nil
	case s.dir != "":
		f, err := multidb.NewFileReplica(s.dir, s.template())
		if err != nil {
			return nil, "", usagef("%v", err)
		}
		return &source{factory: f, place: filepath.Join(s.dir, s.path), byFlags: true}, "", nil
	}
	c, err := s.read(e)
	if err != nil {
		return nil, "", err
	}
	f, err := c.Replica()
	if err != nil {
		return nil, "", err
	}
	return &source{factory: f, discoverer: c.Discoverer(), place: "the replica of " + s.config}, c.FleetLog(), nil
}

// read reads the configuration, and keeps the name of the file that it read.
func (s *sourceFlags) read(e *env) (*config.Config, error) {
	if s.config == "" {
		s.config = e.getenv("MULTIDB_CONFIG")
	}
	if s.config == "" {
		if _, err := os.Stat("multidb.yaml"); err != nil {
			return nil, usagef("where are the backups? there is no multidb.yaml here; give -config FILE, or -bucket NAME, or -dir DIR")
		}
		s.config = "multidb.yaml"
	}
	return config.Read(s.config)
}

// stateDirOf is where the replicate of a configuration has its socket.
func stateDirOf(c *config.Config) (string, error) {
	dir := c.StateDir()
	if dir == "" {
		root := multidb.Glob(c.Patterns()...).Root()
		dir = filepath.Join(root, ".multidb")
	}
	return filepath.Abs(dir)
}

// dial connects to the running replicate; nil means that the replica is to be read.
func (s *sourceFlags) dial(ctx context.Context, e *env) (*control.Client, error) {
	dir, err := s.runningDir(e)
	if dir == "" || err != nil {
		return nil, err
	}
	client, err := control.Dial(ctx, dir)
	if errors.Is(err, control.ErrNotRunning) && s.stateDir == "" {
		e.note("%v: asking the replica", err)
		return nil, nil
	}
	return client, err
}

// runningDir is the state directory of the replicate to ask; empty: the replica is to be read.
func (s *sourceFlags) runningDir(e *env) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	if s.stateDir != "" {
		if s.offline || s.byFlags() {
			return "", usagef("-state-dir excludes -offline, -bucket and -dir")
		}
		return s.stateDir, nil
	}
	if s.offline || s.byFlags() {
		return "", nil
	}
	c, err := s.read(e)
	if err != nil {
		return "", err
	}
	return stateDirOf(c)
}

// close ends the connections.
func (s *source) close() {
	if c, ok := s.factory.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// bytesIn counts what was read of the replica, nil if it does not count.
func (s *source) bytesIn() func() int64 {
	r, ok := s.factory.(multidb.ReplicaStats)
	if !ok {
		return nil
	}
	return func() int64 { return r.RequestStats().BytesIn }
}

// tenants returns the databases that the replica holds, sorted by ID, as far as they
// can be listed, and the errors of the rest.
func (s *source) tenants(ctx context.Context, p *progress) (all []multidb.Database, errs []error) {
	list := multidb.ListTenants(ctx, s.factory)
	if _, ok := s.factory.(multidb.TenantLister); !ok && s.discoverer != nil {
		// The databases of this machine are better than nothing, but may not be all.
		list = s.discoverer.Discover(ctx)
		errs = append(errs, fmt.Errorf("a %T cannot list what it holds: only the databases found on this machine are known", s.factory))
	}
	for db, err := range list {
		if err != nil {
			errs = append(errs, listError(err))
			continue
		}
		all = append(all, db)
		p.done.Add(1)
	}
	slices.SortFunc(all, func(a, b multidb.Database) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, errs
}

// nothing is the error about a replica without any database. One of a configuration may be
// new; one that flags name was most likely mistyped.
func (s *source) nothing(e *env) error {
	err := fmt.Errorf("%w: there is no database at %s", multidb.ErrNoBackup, s.place)
	if s.byFlags {
		return fmt.Errorf("%w; -path is a template, or leave it out to look everywhere", err)
	}
	e.note("%v", err)
	return nil
}

// listError adds a hint about the right that a listing needs and reading does not.
func listError(err error) error {
	if errors.Is(err, s3.ErrAccessDenied) {
		return fmt.Errorf("%w (to list needs s3:ListBucket on the bucket; without it restore one database by its ID with -config, or ask a running replicate)", err)
	}
	return err
}

// explainLone explains a database of which the replica has metadata.json and nothing
// else: older versions left that for a file that they could not read, or its backup was
// deleted. There is no way to know which, so it counts as a failure.
func explainLone(ctx context.Context, s *source, db multidb.Database, err error) error {
	if !errors.Is(err, multidb.ErrNoBackup) {
		return err
	}
	if files, listErr := multidb.ReplicaFiles(ctx, s.factory, db, false); listErr != nil || len(files) > 0 {
		return err
	}
	return fmt.Errorf("%w: there is metadata.json and no transaction: if it never was shipped, delete %s", multidb.ErrNoBackup, s.prefix(db)+"/metadata.json")
}

// selects returns a function that reports whether an ID matches a pattern of
// path.Match: * and ? do not match a slash. An empty pattern matches every ID.
func selects(pattern string) (func(multidb.ID) bool, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, usagef("pattern %q: %v; write * for anything but a slash, and \\ before what is meant as it is", pattern, err)
	}
	return func(id multidb.ID) bool {
		ok, _ := path.Match(pattern, string(id)) // tried above
		return ok || pattern == "" || pattern == string(id)
	}, nil
}

func idsOf(all []multidb.Database) []string {
	ids := make([]string, len(all))
	for i, db := range all {
		ids[i] = string(db.ID)
	}
	return ids
}

// database finds one database of the replica by its ID, without a listing if the
// configuration or the template says where it is.
func (s *source) database(ctx context.Context, e *env, quiet bool, id multidb.ID) (multidb.Database, error) {
	if db, ok := s.guess(ctx, id); ok {
		return db, nil
	}
	p := newProgress(e.stderr, quiet, "looking for "+show(string(id)), nil)
	all, errs := s.tenants(ctx, p)
	p.end()
	if err := ctx.Err(); err != nil {
		return multidb.Database{}, err
	}
	var found []multidb.Database
	for _, db := range all {
		if db.ID == id {
			found = append(found, db)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return multidb.Database{}, fmt.Errorf("%d prefixes at %s have the ID %s: choose one by -path", len(found), s.place, show(string(id)))
	}
	return multidb.Database{}, errors.Join(append(errs, unknown("with the ID", string(id), s.place, idsOf(all)))...)
}

// guess returns where the database would be, if the replica has anything there.
func (s *source) guess(ctx context.Context, id multidb.ID) (db multidb.Database, ok bool) {
	if l, is := s.discoverer.(multidb.DiscovererLocator); is {
		if db, ok = l.Locate(id); ok {
			files, err := multidb.ReplicaFiles(ctx, s.factory, db, false)
			return db, err != nil || len(files) > 0 // the restore reports an error
		}
	}
	vars, ok := s.factory.(multidb.ReplicaVars)
	if !ok {
		return db, false
	}
	names, values := vars.Vars(), strings.Split(string(id), "/")
	if len(names) != len(values) || slices.Contains(names, "path") {
		return db, false
	}
	db = multidb.Database{ID: id}
	for i, name := range names {
		db.Vars = append(db.Vars, multidb.Var{Name: name, Value: values[i]})
	}
	client, err := s.factory.ReplicaClient(db)
	store, ok := client.(multidb.MetadataStore)
	if err != nil || !ok {
		return db, false
	}
	data, err := store.ReadMetadata(ctx)
	if err != nil {
		return db, false // the listing finds out
	}
	var md struct {
		ID multidb.ID `json:"id"`
	}
	return db, json.Unmarshal(data, &md) == nil && md.ID == id
}
