package metadata_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/untrusted"
)

func TestMetadataIsReadBackAsItWasWritten(t *testing.T) {
	md := metadata.Metadata{ID: "p/d", Path: "/data/p/d.db", Vars: map[string]string{"project": "p"}, CreatedAt: time.Unix(1, 0).UTC()}
	want := fsid.Access{Mode: 0o640, UID: 0, GID: 7, Owned: true}
	md.SetAccess(want)
	b, err := md.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const text = `{
  "format": 1,
  "id": "p/d",
  "vars": {
    "project": "p"
  },
  "path": "/data/p/d.db",
  "created_at": "1970-01-01T00:00:01Z",
  "mode": "0640",
  "uid": 0,
  "gid": 7
}
`
	if string(b) != text {
		t.Errorf("written: %s", b)
	}
	got, err := metadata.Decode(b)
	if err != nil || got.FleetLog != "" || got.ID != md.ID || got.Path != md.Path || got.Vars["project"] != "p" || !got.CreatedAt.Equal(md.CreatedAt) || got.Access() != want {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestMetadataNamesTheFleetLogAndWhatIsUnknownIsIgnored(t *testing.T) {
	b, err := metadata.Metadata{ID: "a", FleetLog: "fleet/eu"}.Encode()
	if err != nil || !strings.Contains(string(b), `"fleet_log": "fleet/eu"`) {
		t.Fatalf("written: %s, %v", b, err)
	}
	if md, err := metadata.Decode(b); err != nil || md.FleetLog != "fleet/eu" {
		t.Errorf("read %+v, %v", md, err)
	}
	// As a version before the fleet log reads it: a field that it does not know is no error.
	if md, err := metadata.Decode([]byte(`{"format":1,"id":"a","later":{"x":[1]}}`)); err != nil || md.ID != "a" {
		t.Errorf("read %+v, %v", md, err)
	}
}

func TestMetadataThatCannotBeReadSaysWhy(t *testing.T) {
	if _, err := metadata.Decode(bytes.Repeat([]byte{' '}, 2<<20)); !errors.Is(err, untrusted.ErrDamaged) {
		t.Errorf("endless: error is %v, want ErrDamaged", err)
	}
	if md, err := metadata.Decode([]byte(`{"id":"a`)); err == nil || !strings.HasPrefix(err.Error(), "metadata.json: ") || md.ID != "" {
		t.Errorf("torn: %+v, error is %v", md, err)
	}
	var newer metadata.FormatError
	if md, err := metadata.Decode([]byte(`{"format":99,"id":"a"}`)); !errors.As(err, &newer) || newer != 99 || md.ID != "a" {
		t.Errorf("newer: %+v, error is %v", md, err)
	}
}

type client struct {
	data string
	err  error
}

func (c client) WriteMetadata(context.Context, []byte) error  { return c.err }
func (c client) ReadMetadata(context.Context) ([]byte, error) { return []byte(c.data), c.err }

func TestWhoMayUseADatabaseIsOnlyThisUserWhereItCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		client any
		mode   fs.FileMode
		fails  bool
	}{
		{struct{}{}, 0, false},
		{client{err: fs.ErrNotExist}, 0, false},
		{client{data: `{"format":1,"mode":"0644"}`}, 0o644, false},
		{client{data: `{"format":99,"mode":"0640"}`}, 0o640, false},
		{client{data: `{"format":1,"mode":"-1"}`}, 0, false},
		{client{data: `{`}, 0o600, true},
		{client{err: errors.New("refused")}, 0o600, true},
	} {
		md, err := metadata.At(t.Context(), c.client)
		if a := md.Access(); a.Mode != c.mode || (err != nil) != c.fails {
			t.Errorf("%+v: mode %v, error is %v", c.client, md.Access().Mode, err)
		}
	}
}
