package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb/config"
)

func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	s3 := func(lines ...string) string {
		return withReplica(append([]string{"type: s3", "bucket: b", `path: "{{project}}/{{database}}"`}, lines...)...)
	}
	for _, c := range []struct{ name, doc, want string }{
		{"an unknown key, near a known one", minimal("max-hot-database: 5"), `m.yaml:4:3: multi-db: unknown key "max-hot-database"; did you mean max-hot-databases?`},
		{"a key with underscores", minimal("scan_interval: 5s"), `did you mean scan-interval?`},
		{"a key with capitals", minimal("ScanInterval: 5s"), `did you mean scan-interval?`},
		{"a key like no other", minimal("xyzzy: 5s"), `unknown key "xyzzy"; there are enabled, patterns,`},
		{"a very long key", minimal(strings.Repeat("k", 5000) + ": 5s"), "kkkkk…\""},
		{"a key of replica-template one level up", minimal("sync-interval: 5s"), `unknown key "sync-interval" here; it belongs in replica-template`},
		{"a key of multi-db one level down", withReplica("type: none", "scan-interval: 5s"), `it belongs under multi-db`},
		{"a key of multi-db at the top", minimal() + "state-dir: /x\n", `m.yaml:4:1: unknown key "state-dir" here; it belongs under multi-db`},
		{"a key of another type", withReplica("type: url", "url: file:///{{project}}/{{database}}", "bucket: x"), `unknown key "bucket" here; it belongs to type: s3`},
		{"a duplicate key", minimal("scan-interval: 5s", "hot-duration: 5s", "scan-interval: 5s"), "m.yaml:6:3: multi-db.scan-interval: a second time; the first is in line 4"},
		{"a duplicate section", minimal() + minimal(), "m.yaml:4:1: multi-db: a second time; the first is in line 1"},
		{"a missing section", "other: 1\n", "multi-db is missing"},
		{"missing patterns", "multi-db:\n  replica-template: {type: none}\n", "patterns is missing"},
		{"no replica-template", "multi-db:\n  patterns: [\"/a/{{x}}.db\"]\n", "replica-template is missing"},
		{"no type", withReplica("bucket: b"), "m.yaml:3:3: multi-db.replica-template: type is missing; write type: s3"},
		{"an unknown type", withReplica("type: gcs"), `m.yaml:4:11: multi-db.replica-template.type: "gcs" is not one of s3, file, url, none`},
		{"a missing bucket", withReplica("type: s3", "path: x/{{database}}"), "bucket is missing"},
		{"a bucket that is a URL", s3("sse: AES128"), `sse: sse is "AES128"`},
		{"half of the credentials", s3("access-key-id: a"), "access-key-id: static credentials need both access-key-id and secret-access-key"},
		{"a key with nothing", s3("region:"), "region: it has no value"},
		{"a section with nothing", "multi-db:\n", "multi-db: nothing stands under it"},
		{"an empty bucket", withReplica("type: s3", `bucket: ""`, "path: x"), "bucket: it is empty"},
		{"an empty bucket by a default", withReplica("type: s3", `bucket: ${X:-}`, "path: x"), `bucket: "${X:-}" is empty`},

		{"a pattern that is no list", "multi-db:\n  patterns: /data/*.db\n  replica-template: {type: none}\n", "patterns: want a list, not text"},
		{"an empty list", "multi-db:\n  patterns: []\n  replica-template: {type: none}\n", "patterns: it has no pattern"},
		{"a wrong pattern", "multi-db:\n  patterns:\n  - /data/{{x}}.db\n  - /data/**/x.db\n  replica-template: {type: none}\n", "m.yaml:4:5: multi-db.patterns: "},
		{"a number for a pattern", "multi-db:\n  patterns: [5]\n  replica-template: {type: none}\n", "patterns: want text, not a number"},
		{"a path with what no pattern captures", withReplica("type: file", "dir: /b", "path: x/{{tenant}}"), "does not capture {{tenant}}"},

		{"a number for text", s3("region: 5"), "region: want text, not a number (in quotes it is text)"},
		{"a boolean for text", s3("region: true"), "region: want text, not true or false"},
		{"a list for text", s3("region: [a]"), "region: want text, not a list"},
		{"a mapping for text", s3("region: {a: b}"), "region: want text, not a mapping"},
		{"text for a boolean", s3("anonymous: yes"), `anonymous: "yes" is not true or false`},
		{"a quoted boolean", s3(`anonymous: "true"`), `anonymous: "true" is not true or false`},
		{"a number for a boolean", minimal("enabled: 1"), "enabled: want true or false, not a number"},
		{"text for a number", minimal("max-hot-databases: many"), `"many" is text; want a whole number`},
		{"a quoted number", minimal(`max-hot-databases: "5"`), `"5" is text; want a whole number`},
		{"a decimal", minimal("max-hot-databases: 1.5"), "1.5 is not a whole number"},
		{"a number with an underscore", minimal("max-hot-databases: 1_000"), "1_000 is not a whole number"},
		{"an octal number", minimal("max-hot-databases: 010"), "010 is not a whole number"},
		{"a hexadecimal number", minimal("max-hot-databases: 0x10"), "0x10 is not a whole number"},
		{"an overflowing size without a unit", minimal("max-wal-size: 99999999999999999999"), "is out of range"},
		{"a folded scalar", minimal("state-dir: >\n    /x"), "control character, such as a line break"},
		{"zero", minimal("max-hot-databases: 0"), "0 is out of range; want 1 to"},
		{"a negative number", minimal("max-hot-databases: -3"), "-3 is out of range"},
		{"an overflowing number", minimal("max-hot-databases: 99999999999999999999"), `"99999999999999999999" is out of range`},
		{"a count too large", minimal("hot-promotion: {access-count-threshold: 65536}"), "want 0 to 65535"},

		{"a duration without a unit", minimal("scan-interval: 30"), "m.yaml:4:18: multi-db.scan-interval: 30 has no unit; write for example 30s"},
		{"a negative duration", minimal("scan-interval: -30s"), `"-30s" is negative`},
		{"a zero duration", minimal("scan-interval: 0s"), `"0s" is not above zero`},
		{"a bare zero", minimal("scan-interval: 0"), "0 is not above zero"},
		{"an overflowing duration", minimal("scan-interval: 9999999999h"), `"9999999999h" is out of range`},
		{"an overflowing negative duration", minimal("scan-interval: -9999999999h"), "out of range"},
		{"days", minimal("scan-interval: 30d"), "there are no days; write hours, 720h for 30 days"},
		{"a word for a duration", minimal("scan-interval: often"), `"often" is not a duration`},
		{"a decimal for a duration", minimal("scan-interval: 1.5"), "want a duration such as 500ms, 30s or 24h, not a decimal number"},
		{"a negative idle-timeout", minimal("idle-timeout: -1s"), "is negative"},
		{"two intervals that do not fit", withReplica("type: none", "sync-interval: 1h"), "m.yaml:5:5: multi-db.replica-template.sync-interval: cold-sync-interval: 30s is shorter than the sync interval of 1h0m0s"},

		{"a size of nothing", minimal("max-wal-size: 5"), "5 is too small; want at least 65536 bytes"},
		{"a limit of almost nothing", minimal("max-total-wal-size: 5"), "5 is too small; want 0, or at least 65536 bytes"},
		{"a negative cache", minimal("cache-size: -1"), "too small"},
		{"a negative size", minimal("max-wal-size: -5GiB"), "too small"},
		{"an overflowing size", minimal("max-wal-size: 99999999999GiB"), "out of range"},
		{"a quoted size without a unit", minimal(`max-wal-size: "1000000"`), "is not a size"},
		{"a size of another unit", minimal("max-wal-size: 64MB"), `"64MB" is not a size; want a number of bytes without quotes, or one with KiB, MiB or GiB`},

		{"an unknown key of the fleet log", minimal("fleet-log: {retention: 1h}"), `m.yaml:4:15: multi-db.fleet-log: unknown key "retention"; did you mean log-retention?`},
		{"a key of the fleet log that is nearly right", minimal("fleet-log:", "  unpack_intervall: 1h"), `m.yaml:5:5: multi-db.fleet-log: unknown key "unpack_intervall"; did you mean unpack-interval?`},
		{"a fleet log of nothing", minimal("fleet-log:"), "m.yaml:4:3: multi-db.fleet-log: nothing stands under it"},
		{"a fleet log that is a path", minimal("fleet-log: fleet"), "fleet-log: want keys with values, not text"},
		{"an interval of the fleet log without a unit", minimal("fleet-log: {unpack-interval: 300}"), "fleet-log.unpack-interval: 300 has no unit; write for example 300s"},
		{"a fleet log that unpacks all the time", minimal("fleet-log: {unpack-interval: 0}"), "0 is not above zero"},
		{"a retention of the fleet log that is negative", minimal("fleet-log: {log-retention: -1h}"), `"-1h" is negative`},
		{"a size of the fleet log of almost nothing", minimal("fleet-log: {unpack-size: 5}"), "5 is too small; want at least 65536 bytes"},
		{"an empty path of the fleet log", minimal(`fleet-log: {path: ""}`), "fleet-log.path: it is empty"},
		{"a path of the fleet log for each tenant", minimal(`fleet-log:`, `  path: "fleet/{{project}}"`), `m.yaml:5:5: multi-db.fleet-log.path: fleet-log: path is "fleet/{{project}}"; it is one directory for all tenants`},
		{"a path of the fleet log from the root", minimal(`fleet-log: {path: /fleet}`), `path is "/fleet"; want a relative path`},
		{"a path of the fleet log out of the replica", minimal(`fleet-log: {path: a/../../b}`), `path is "a/../../b"; want a relative path`},
		{"a fleet log without a replica", withReplica("type: none") + "  fleet-log: {}\n", "m.yaml:5:3: multi-db.fleet-log: fleet-log: there is no replica"},
		{"a fleet log at a replica that cannot have one", withReplica("type: url", "url: file:///{{project}}/{{database}}") + "  fleet-log: {}\n", "keeps no plain objects"},
		{"a level", minimal("log: {level: loud}"), `"loud" is not one of debug, info, warn, error`},
		{"a takeover", minimal("takeover: always"), `"always" is not one of never, unknown`},
		{"a cold-sync-mode", minimal("cold-sync-mode: all"), `"all" is not one of snapshot, none`},

		{"an anchor", minimal("state-dir: &a /x"), "anchors and aliases are not supported"},
		{"an alias", minimal("state-dir: *a"), "anchors and aliases are not supported"},
		{"a merge", minimal("<<: {enabled: true}"), "anchors and aliases are not supported"},
		{"a tag", minimal("state-dir: !!str 5"), "tags are not supported"},
		{"a second document", minimal() + "---\n" + minimal(), "m.yaml:5:"},
		{"an unclosed quote", minimal(`state-dir: "x`), "m.yaml:4:14: not valid YAML"},
		{"a tab", "multi-db:\n\tenabled: true\n", "m.yaml:2:"},
		{"a line that is not a key", minimal("state-dir"), "m.yaml:4:3: not valid YAML"},
	} {
		t.Run(c.name+" is an error", func(t *testing.T) {
			_, err := config.Parse("m.yaml", []byte(c.doc), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s\ngot  %v\nwant %s", c.doc, err, c.want)
			}
		})
	}
}

func TestWhatIsRightIsTaken(t *testing.T) {
	for _, line := range []string{
		"idle-timeout: 0", "idle-timeout: 0s", "scan-interval: 1h30m", "scan-interval: 0.5s", "scan-interval: ${SCAN}", `scan-interval: "${SCAN}"`,
		"scan-interval: ${UNSET:-5s}", "max-hot-databases: ${COUNT}", "restore-on-open: ${FLAG}", "restore-on-open: true",
		"cache-size: 0", "cache-size: 1", "max-total-wal-size: 0", "max-total-wal-size: 1GiB", "max-wal-size: 65536", "max-wal-size: 1MiB", "max-wal-size: 2 GiB", "max-wal-size: ${SIZE}", "max-wal-size: ${COUNT}0000",
		"hot-promotion: {}", "hot-promotion: {recent-modify-threshold: 0, access-count-threshold: 0}", "cold-sync-mode: snapshot", "cold-sync-mode: none", "takeover: never", "takeover: unknown",
		"fleet-log: {}", "fleet-log: {path: a/b, unpack-interval: 3h, unpack-size: 64MiB, log-retention: 24h}", "fleet-log: {path: \"${DIRS}\"}",
		"log: {level: debug, format: json}", "log: {}", "state-dir: ${DIR}/x", "state-dir: 'a''b'",
	} {
		t.Run(line, func(t *testing.T) {
			_, err := config.Parse("m.yaml", []byte(minimal(line)), env("SCAN=7s", "COUNT=12", "FLAG=true", "SIZE=3MiB", "DIR=/d", "DIRS=a/b"))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAllThatIsWrongIsSaidAtOnceInOrderAndWithALimit(t *testing.T) {
	_, err := config.Parse("m.yaml", []byte(minimal("scan-interval: x", "hot-duration: y", "nope: z")), nil)
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "m.yaml:4:") || !strings.HasPrefix(lines[1], "m.yaml:5:") || !strings.HasPrefix(lines[2], "m.yaml:6:") {
		t.Errorf("got %v", err)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("zzz%d: 1", i))
	}
	_, err = config.Parse("m.yaml", []byte(minimal(many...)), nil)
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 21 || !strings.Contains(err.Error(), "and 80 errors more") {
		t.Errorf("%d lines: %v", n, err)
	}
}

func TestWithoutARightTypeNothingElseOfTheReplicaIsComplainedOf(t *testing.T) {
	for _, kind := range []string{"#", "type: gcs", "type: ${UNSET}"} {
		_, err := config.Parse("m.yaml", []byte(withReplica(kind, "bucket: b", "nonsense: x")), nil)
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "type") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestLineEndsDoNotMoveTheFinger(t *testing.T) {
	doc := "# one\n\n" + minimal("state-dir: \"a", "    b\"", "log: {level: ", "    loud}", "scan-interval: 'x'", "# é", "hot-duration: é")
	_, unix := config.Parse("m.yaml", []byte(doc), nil)
	_, dos := config.Parse("m.yaml", []byte(strings.ReplaceAll(doc, "\n", "\r\n")), nil)
	if fmt.Sprint(unix) != fmt.Sprint(dos) {
		t.Errorf("%v\nand\n%v", unix, dos)
	}
}

func TestADocumentMadeToBeSlowIsRefusedAtOnce(t *testing.T) {
	for _, part := range []string{"[", "{a: ", "- ", "? ", "a: ", "&a ", "!a ", "a: b\n", "---\n", "- [", "a:\n- "} {
		size := config.MaxSize
		if testing.Short() {
			size /= 16
		}
		doc := strings.Repeat(part, size/len(part))
		start := time.Now()
		_, err := config.Parse("m.yaml", []byte(doc), nil)
		if err == nil {
			t.Errorf("%q many times is taken", part)
		}
		// Far above what it takes, far below what the parser would.
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%q many times took %v", part, took)
		}
		if len(err.Error()) > 10_000 {
			t.Errorf("%q many times has an error of %d bytes", part, len(err.Error()))
		}
	}
}
