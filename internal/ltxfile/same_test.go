package ltxfile

import (
	"bytes"
	"slices"
	"testing"

	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is a snapshot of some pages.
func file(t *testing.T, change func(*ltx.Header), pages ...byte) []byte {
	t.Helper()
	hdr := ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: uint32(len(pages)), MinTXID: 1, MaxTXID: 5, Timestamp: 1}
	if change != nil {
		change(&hdr)
	}
	var b bytes.Buffer
	enc, err := ltx.NewEncoder(&b)
	if err == nil {
		err = enc.EncodeHeader(hdr)
	}
	for i, p := range pages {
		if err == nil {
			err = enc.EncodePage(ltx.PageHeader{Pgno: uint32(i + 1)}, bytes.Repeat([]byte{p}, 512))
		}
	}
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFilesAreTheSameByWhatTheyDo(t *testing.T) {
	one := file(t, nil, 1, 2, 3)
	for name, c := range map[string]struct {
		other []byte
		same  bool
	}{
		"itself":                     {one, true},
		"of another time and writer": {file(t, func(h *ltx.Header) { h.Timestamp, h.NodeID = 9, 7 }, 1, 2, 3), true},
		"another page":               {file(t, nil, 1, 9, 3), false},
		"fewer pages":                {file(t, nil, 1, 2), false},
		"more pages":                 {file(t, nil, 1, 2, 3, 4), false},
		"other transactions":         {file(t, func(h *ltx.Header) { h.MaxTXID = 6 }, 1, 2, 3), false},
	} {
		hdr, same, err := Same(bytes.NewReader(one), bytes.NewReader(c.other))
		if err != nil || same != c.same {
			t.Errorf("%s: %v, %v", name, same, err)
		}
		if name == "of another time and writer" && hdr.Timestamp != 9 {
			t.Errorf("the header is not the second's: %+v", hdr)
		}
	}
}

// TestADamagedFileIsAnErrorAndNoOtherChange: whoever finds another change in the place
// of his own is fenced for good.
func TestADamagedFileIsAnErrorAndNoOtherChange(t *testing.T) {
	one := file(t, nil, 1, 2, 3)
	for i := range one {
		b := slices.Clone(one)
		b[i] ^= 0x10
		if _, same, err := Same(bytes.NewReader(one), bytes.NewReader(b)); err == nil && !same {
			t.Errorf("byte %d of %d: another change", i, len(b))
		}
	}
	for n := range len(one) - ltx.TrailerSize {
		if _, same, err := Same(bytes.NewReader(one), bytes.NewReader(one[:n])); err == nil && !same {
			t.Errorf("cut after %d bytes: another change", n)
		}
	}
}
