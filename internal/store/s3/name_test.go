package s3

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/superfly/ltx"
)

func TestNamesThatXMLCannotCarryAreRefusedAndAllOthersAreFoundAgain(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	var carried []string
	for r := rune(1); r <= 0x10FFFF; r++ {
		if 0x3000 < r && r < 0xFF00 || r > 0x10100 && r < 0x10FFF0 || r >= 0xD800 && r < 0xE000 {
			continue // alike
		}
		name := "a" + string(r) + "b"
		var text strings.Builder
		if err := xml.EscapeText(&text, []byte(name)); err != nil {
			t.Fatal(err)
		}
		err := CheckName(name)
		lost := strings.Contains(text.String(), "\uFFFD") && r != 0xFFFD || r == '\r'
		if (err != nil) != lost || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%U: %v", r, err)
		}
		if err == nil && (r < 0x100 || r > 0xFFF0) && r != '/' {
			carried = append(carried, name)
		}
	}
	if CheckName("a\xffb") == nil {
		t.Error("invalid UTF-8: no error")
	}
	for _, name := range carried {
		p := c.Prefix(name)
		mustWrite(t, p, 0, 1, 1, ltxBytes(t, 1, 300))
		l, err := p.Listing(t.Context(), false)
		if err != nil || len(l.Files) != 1 {
			t.Errorf("%q: %v, %v", name, l, err)
			continue
		}
		if err := p.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{l.Files[0]}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := f.keys(t); len(got) != 0 {
		t.Errorf("not deleted: %q", got)
	}
}

func TestAListingInAnotherFormIsNotTakenForAnEmptyOne(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		_, _ = io.WriteString(w, strings.ReplaceAll(rec.Body.String(), "<Key>é", "<Key>e\u0301"))
	})
	p := newClient(t, f.config()).Prefix("é")
	mustWrite(t, p, 0, 1, 1, ltxBytes(t, 1, 300))
	if l, err := p.Listing(t.Context(), false); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, %v", l, err)
	}
}
