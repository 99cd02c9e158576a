// Package ltxfile compares LTX files by what they change in a database. It has no state.
package ltxfile

import (
	"bytes"
	"fmt"
	"io"

	"github.com/superfly/ltx"
)

// Same reads two LTX files and reports whether they make the same change: whether they have
// the same transactions, page size, size of the database, and pages. Their times and writers
// may differ. hdr is the header of b. Same always reads b to its end and verifies it: if it
// was damaged in transit, Same returns an error, and does not report another change.
func Same(a, b io.Reader) (hdr ltx.Header, same bool, err error) {
	fail := func(err error) (ltx.Header, bool, error) {
		return hdr, false, fmt.Errorf("compare LTX files: %w", err)
	}
	da, db := ltx.NewDecoder(a), ltx.NewDecoder(b)
	db.SetRetainPageIndex(false)
	if err := da.DecodeHeader(); err != nil {
		return fail(err)
	}
	if err := db.DecodeHeader(); err != nil {
		return fail(err)
	}
	ha, hdr := da.Header(), db.Header()
	same = ha.MinTXID == hdr.MinTXID && ha.MaxTXID == hdr.MaxTXID && ha.PageSize == hdr.PageSize && ha.Commit == hdr.Commit
	pa, pb := make([]byte, ha.PageSize), make([]byte, hdr.PageSize)
	for {
		var na, nb ltx.PageHeader
		errB := db.DecodePage(&nb, pb)
		if errB != nil && errB != io.EOF {
			return fail(errB)
		}
		if same {
			errA := da.DecodePage(&na, pa)
			if errA != nil && errA != io.EOF {
				return fail(errA)
			}
			same = errA == errB && (errA == io.EOF || na.Pgno == nb.Pgno && bytes.Equal(pa, pb))
		}
		if errB == io.EOF {
			break
		}
	}
	if err := db.Close(); err != nil {
		return fail(err)
	}
	return hdr, same, nil
}
