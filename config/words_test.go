package config_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/config"
)

func TestWhatTheLibrarySaysIsSaidInTheWordsOfAConfiguration(t *testing.T) {
	for said, want := range map[string]string{
		"give each Manager its own WithStateDir":                                                          "give each Manager its own state-dir",
		"allow it to be missing (WithMissingRoots; allow-missing-roots in a configuration)":               "allow it to be missing (allow-missing-roots)",
		"start once with WithEmptiedVolumes (allow-emptied-volumes in a configuration) if it was emptied": "start once with allow-emptied-volumes if it was emptied",
		"another state directory (WithStateDir; state-dir in a configuration)":                            "another state directory (state-dir)",
		"see DrillOptions.PerDay":                       "see drills.per-day",
		"FleetLogConfig.UnpackInterval is too long":     "fleet-log.unpack-interval is too long",
		"set S3Config.AllowUnsafeWrites":                "set allow-unsafe-writes",
		"add multidb.WithReplica":                       "add replica-template",
		"an access point is not a URL; use WithS3 with": "an access point is not a URL; use replica-template with",
		"WithSyncInterval and WithFleetLog":             "sync-interval and fleet-log",
		"WithOpenHook has no key":                       "WithOpenHook has no key",
		"RestoreOptions.OutputPath is empty":            "RestoreOptions.OutputPath is empty",
	} {
		if got := config.Words(said); got != want {
			t.Errorf("%s\nis said as\n%s\nwant\n%s", said, got, want)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: config.LogWords})).Warn("x", "err", errors.New("see WithStateDir"), "n", 5)
	if said := log.String(); !strings.Contains(said, `err="see state-dir" n=5`) {
		t.Error(said)
	}
}
