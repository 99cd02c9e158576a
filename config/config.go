package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
	"github.com/multidb-go/multidb"
)

// MaxSize is the largest configuration, in bytes.
const MaxSize = 1 << 20

// Config is a configuration that was read and found right. It is immutable and
// safe for concurrent use. Printing it shows no secret.
type Config struct {
	file     string
	enabled  bool
	patterns []string
	stateDir string
	options  []multidb.Option
	replica  multidb.ReplicaFactory
	fleetLog *multidb.FleetLogConfig
	cluster  *multidb.ClusterConfig
	drills   *multidb.DrillOptions
	listen   *Listen
	place    string
}

// Load reads the file at path and returns its options for multidb.New, with
// variables from the environment. All that is wrong is joined, each as *Error;
// ErrDisabled if the file says enabled: false.
func Load(path string) ([]multidb.Option, error) {
	c, err := Read(path)
	if err != nil {
		return nil, err
	}
	return c.Options()
}

// Read reads the file at path, with variables from the environment. All that is
// wrong is joined, each as *Error.
func Read(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, &Error{File: path, Err: err}
	}
	return Parse(path, data, os.LookupEnv)
}

// readFile reads no more than can be a configuration, so that a wrong path to a
// large file, or to a device, costs nothing.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, causeOf(err)
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errInvalid("it is a directory; give the path of a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, causeOf(err)
	}
	return data, nil
}

// causeOf drops the path, which Error has already.
func causeOf(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Parse reads a configuration from data. name is what errors call it; env looks
// variables up, as os.LookupEnv does; nil: none is set. A disabled
// configuration is checked all the same. It does no I/O, but asks for the host's name
// where cluster has no node. All that is wrong is joined, each as *Error.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	if len(data) > MaxSize {
		return nil, &Error{File: name, Err: errInvalid(fmt.Sprintf("larger than %d bytes; is this a multidb configuration?", MaxSize))}
	}
	root, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{file: name, env: env, places: map[string]*token.Token{}, names: map[string]string{}}
	s := &settings{}
	d.mapping(value{node: root}, s.rootKeys(), s.places("under multi-db", append(s.multiKeys(), s.replicaKeys()...)))
	if len(d.errs) > 0 {
		return nil, joinErrors(d.errs)
	}
	c := s.config(d)
	if len(d.errs) > 0 {
		return nil, joinErrors(d.errs)
	}
	return c, nil
}

// config puts the options together and has the library check them against each
// other.
func (s *settings) config(d *decoder) *Config {
	c := &Config{file: d.file, enabled: !s.disabled, patterns: s.patterns, stateDir: s.stateDir, place: s.replica.place()}
	factory, err := s.replica.factory()
	if err != nil {
		d.failWhole("WithReplica", err)
		return nil
	}
	if s.cluster != nil && s.noRestore {
		d.fail(d.places["WithRestoreOnOpen"], d.names["WithRestoreOnOpen"], "it cannot be false: with cluster, a database is brought from the replica where it is used; remove the key")
		return nil
	}
	if s.cluster != nil && s.fleetLog == nil {
		s.fleetLog = &multidb.FleetLogConfig{Path: defaultFleetLog} // which WithCluster implies
	}
	c.replica, c.fleetLog, c.cluster, c.drills, c.listen = factory, s.fleetLog, s.cluster, s.drills, s.listen
	c.options = append(c.options, multidb.WithDiscoverer(multidb.Glob(s.patterns...)))
	if factory != nil {
		c.options = append(c.options, multidb.WithReplica(factory))
	}
	c.options = append(c.options, s.options...)
	if p := s.promotion; p != nil {
		c.options = append(c.options, multidb.WithPromotion(p.recentModify, p.accessCount))
	}
	if s.log != nil {
		c.options = append(c.options, multidb.WithLogger(s.log.logger()))
	}
	if _, err := multidb.New(c.options...); err != nil {
		d.failWhole("WithDiscoverer", err)
		return nil
	}
	c.options = s.policies(d, c.options)
	return c
}

// Enabled is what the file says; true if it says nothing.
func (c *Config) Enabled() bool { return c.enabled }

// Options returns the options for multidb.New, or ErrDisabled. A replica is
// shared by all Managers made of them, and is the one that Replica returns.
func (c *Config) Options() ([]multidb.Option, error) {
	if !c.enabled {
		return nil, &Error{File: c.file, Err: ErrDisabled}
	}
	return slices.Clone(c.options), nil
}

// Replica returns the replica, the same one at every call, also of a disabled
// configuration, so that what it has can be restored. The error is
// multidb.ErrNoReplica if the type is none.
func (c *Config) Replica() (multidb.ReplicaFactory, error) {
	if c.replica == nil {
		return nil, &Error{File: c.file, Err: multidb.ErrNoReplica}
	}
	return c.replica, nil
}

// FleetLog returns the directory of the fleet log at the replica; empty if there is none.
func (c *Config) FleetLog() string {
	if c.fleetLog == nil {
		return ""
	}
	return c.fleetLog.Path
}

// Cluster returns what the nodes of a cluster are told, with the name of this one; nil if it is
// none. A field that the file leaves out is zero.
func (c *Config) Cluster() *multidb.ClusterConfig {
	if c.cluster == nil {
		return nil
	}
	o := *c.cluster
	return &o
}

// Drills returns the options of drills; nil if there are none.
func (c *Config) Drills() *multidb.DrillOptions {
	if c.drills == nil {
		return nil
	}
	o := *c.drills
	return &o
}

// Discoverer returns a Discoverer of the patterns.
func (c *Config) Discoverer() multidb.Discoverer { return multidb.Glob(c.patterns...) }

// Patterns returns the patterns, with variables put in.
func (c *Config) Patterns() []string { return slices.Clone(c.patterns) }

// StateDir returns state-dir; empty if the file leaves it to the library.
func (c *Config) StateDir() string { return c.stateDir }

// String says where the configuration is from and to where it replicates.
func (c Config) String() string {
	state := ""
	if !c.enabled {
		state = "disabled, "
	}
	log := ""
	if c.fleetLog != nil {
		log = ", by the fleet log " + c.fleetLog.Path
	}
	if c.cluster != nil {
		log += ", as node " + c.cluster.Node
	}
	return fmt.Sprintf("%s: %s%s to %s%s", c.file, state, strings.Join(c.patterns, ", "), c.place, log)
}

// GoString is String.
func (c Config) GoString() string { return c.String() }

// Format is String for every verb: those of numbers would show the fields.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// failLibrary reports what the library says of one value.
func (d *decoder) failLibrary(v value, err error) {
	for line := range strings.Lines(err.Error()) {
		d.failValue(v, "%s", d.library(strings.TrimSuffix(line, "\n")))
	}
}

// failWhole reports what the library says of several keys together, each line
// at the first key that it names, else at that of fallback.
func (d *decoder) failWhole(fallback string, err error) {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		sets := fallback
		for _, word := range words.FindAllString(line, -1) {
			if word == "WithColdSyncInterval" && d.places[word] == nil {
				word = "WithSyncInterval" // too long for the other one's default
			}
			if d.places[word] != nil {
				sets = word
				break
			}
		}
		d.fail(d.places[sets], d.names[sets], "%s", d.library(line))
	}
}

var words = regexp.MustCompile(`\b[A-Z][A-Za-z0-9]*\b`)

// library puts a message of the library into the file's words: keys instead of
// options and fields, and variables instead of what they hold.
func (d *decoder) library(s string) string {
	for _, v := range d.vars {
		s = hide(s, v.value, "${"+v.name+"}")
	}
	for _, secret := range d.secrets {
		s = hide(s, secret, "…")
	}
	s = strings.ReplaceAll(s, multidb.ErrInvalidOption.Error()+": ", "")
	s = strings.TrimPrefix(s, "multidb: ")
	s = strings.TrimPrefix(s, "s3 replica: ")
	return words.ReplaceAllStringFunc(s, func(word string) string {
		if name := libraryName(word); name != "" {
			return name
		}
		return word
	})
}

// hide replaces value in s, also as %q writes it. A short one is no secret, and
// would be found inside other words.
func hide(s, value, by string) string {
	if len(value) < 4 {
		return s
	}
	s = strings.ReplaceAll(s, value, by)
	quoted := strconv.Quote(value)
	return strings.ReplaceAll(s, quoted[1:len(quoted)-1], by)
}

// libraryName returns the key that sets an option or a field, or "".
func libraryName(word string) string {
	s := &settings{}
	for _, k := range append(s.multiKeys(), s.replicaKeys()...) {
		if k.sets == word {
			return k.name
		}
	}
	return ""
}
