package config

import (
	"math"
	"net/url"
	"time"

	"github.com/multidb-go/multidb"
)

// replica is what stands under replica-template.
type replica struct {
	kind      string // s3, file, url or none
	s3        multidb.S3Config
	dir, path string // of file
	url       string
}

var replicaTypes = []string{"s3", "file", "url", "none"}

// replicaKeys are those of every type.
func (s *settings) replicaKeys() []key {
	keys := s.sharedReplicaKeys()
	seen := map[string]bool{}
	for _, t := range replicaTypes {
		for _, k := range s.replica.keys(t) {
			if !seen[k.name] {
				keys = append(keys, k)
				seen[k.name] = true
			}
		}
	}
	return keys
}

func (s *settings) sharedReplicaKeys() []key {
	return []key{
		{name: "type", required: true, read: func(*decoder, value) {}}, // readReplica has
		s.durationKey("sync-interval", "WithSyncInterval", multidb.WithSyncInterval),
		s.durationKey("snapshot-interval", "WithSnapshotInterval", multidb.WithSnapshotInterval),
		s.durationKey("retention", "WithRetention", multidb.WithRetention),
		s.durationKey("retention-check-interval", "WithRetentionInterval", multidb.WithRetentionInterval),
		s.durationKey("l0-retention", "WithL0Retention", multidb.WithL0Retention),
	}
}

// keys are those of one type alone.
func (r *replica) keys(kind string) []key {
	switch kind {
	case "s3":
		return s3Keys(&r.s3)
	case "file":
		return []key{
			{name: "dir", required: true, read: requiredText(func(s string) { r.dir = s })},
			{name: "path", required: true, read: requiredText(func(s string) { r.path = s })},
		}
	case "url":
		return []key{
			{name: "url", required: true, secret: true, read: requiredText(func(s string) { r.url = s })},
		}
	}
	return nil
}

// s3Keys has one for every field of S3Config.
func s3Keys(c *multidb.S3Config) []key {
	str := func(name, field string, p *string) key {
		return key{name: name, sets: field, read: text(func(s string) { *p = s })}
	}
	required := func(name, field string, p *string) key {
		return key{name: name, sets: field, required: true, read: requiredText(func(s string) { *p = s })}
	}
	secret := func(name, field string, p *string) key {
		k := str(name, field, p)
		k.secret = true
		return k
	}
	flag := func(name, field string, p *bool) key {
		return key{name: name, sets: field, read: boolean(func(on bool) { *p = on })}
	}
	count := func(name, field string, p *int) key {
		return key{name: name, sets: field, read: integer(1, math.MaxInt32, func(n int64) { *p = int(n) })}
	}
	return []key{
		required("bucket", "Bucket", &c.Bucket),
		required("path", "Path", &c.Path),
		str("region", "Region", &c.Region),
		// It may hold a password by mistake, which is the error then.
		secret("endpoint", "Endpoint", &c.Endpoint),
		secret("access-key-id", "AccessKeyID", &c.AccessKeyID),
		secret("secret-access-key", "SecretAccessKey", &c.SecretAccessKey),
		secret("session-token", "SessionToken", &c.SessionToken),
		str("profile", "Profile", &c.Profile),
		flag("anonymous", "Anonymous", &c.Anonymous),
		flag("force-path-style", "ForcePathStyle", &c.ForcePathStyle),
		flag("accelerate", "Accelerate", &c.Accelerate),
		str("storage-class", "StorageClass", &c.StorageClass),
		str("sse", "SSE", &c.SSE),
		str("sse-kms-key-id", "SSEKMSKeyID", &c.SSEKMSKeyID),
		secret("sse-customer-key", "SSECustomerKey", &c.SSECustomerKey),
		count("concurrency", "Concurrency", &c.Concurrency),
		count("max-attempts", "MaxAttempts", &c.MaxAttempts),
		{name: "request-timeout", sets: "RequestTimeout", read: duration(1, func(t time.Duration) { c.RequestTimeout = t })},
		{name: "part-size", sets: "PartSize", read: size(5<<20, func(n int64) { c.PartSize = n })},
		flag("allow-unsafe-writes", "AllowUnsafeWrites", &c.AllowUnsafeWrites),
		flag("no-delete", "NoDelete", &c.NoDelete),
	}
}

func (s *settings) readReplica(d *decoder, v value) {
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	// The type decides which keys there are, wherever it stands: without it
	// every other complaint would be a guess.
	typed := false
	for _, e := range entries {
		if e.Key.GetToken().Value == "type" {
			typed = true
			oneOf(replicaTypes, func(kind string) { s.replica.kind = kind })(d, value{node: e.Value, path: join(v.path, "type")})
			break
		}
	}
	if !typed {
		d.fail(d.places["WithReplica"], v.path, "type is missing; write type: s3, file, url or none")
	}
	if s.replica.kind == "" {
		return
	}
	keys := append(s.sharedReplicaKeys(), s.replica.keys(s.replica.kind)...)
	elsewhere := s.places("under multi-db", s.multiKeys())
	for _, t := range replicaTypes {
		for _, k := range s.replica.keys(t) {
			elsewhere[k.name] = "to type: " + t
		}
	}
	d.mapping(v, keys, elsewhere)
}

// factory makes the replica, or nil for none.
func (r *replica) factory() (multidb.ReplicaFactory, error) {
	switch r.kind {
	case "s3":
		return factory(multidb.NewS3Replica(r.s3))
	case "file":
		return factory(multidb.NewFileReplica(r.dir, r.path))
	case "url":
		return factory(multidb.NewURLReplica(r.url))
	}
	return nil, nil
}

// factory keeps a nil pointer from becoming an interface that is not nil.
func factory[F multidb.ReplicaFactory](f F, err error) (multidb.ReplicaFactory, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// place is where the replica is, without credentials.
func (r *replica) place() string {
	switch r.kind {
	case "s3":
		return r.s3.String()
	case "file":
		return "directory " + r.dir
	case "url":
		if u, err := url.Parse(r.url); err == nil {
			return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
		}
	}
	return "no replica"
}
