// Package ltxfile compares LTX files by what they do to a database.
package ltxfile

import (
	"bytes"
	"fmt"
	"io"

	"github.com/superfly/ltx"
)

// Same reads two LTX files and reports whether they are the same change: the same
// transactions, page size, size of the database, and pages. Their times and
// writers may differ. hdr is that of the second, whose checksum is verified if they
// are the same. Both are read only as far as they agree; an error says that one of them could not be read, or is damaged.
func Same(a, b io.Reader) (hdr ltx.Header, same bool, err error) {
	da, db := ltx.NewDecoder(a), ltx.NewDecoder(b)
	db.SetRetainPageIndex(false)
	if err := da.DecodeHeader(); err != nil {
		return hdr, false, fmt.Errorf("compare LTX files: %w", err)
	}
	if err := db.DecodeHeader(); err != nil {
		return hdr, false, fmt.Errorf("compare LTX files: %w", err)
	}
	ha, hdr := da.Header(), db.Header()
	if ha.MinTXID != hdr.MinTXID || ha.MaxTXID != hdr.MaxTXID || ha.PageSize != hdr.PageSize || ha.Commit != hdr.Commit {
		return hdr, false, nil
	}
	pa, pb := make([]byte, ha.PageSize), make([]byte, hdr.PageSize)
	for {
		var na, nb ltx.PageHeader
		errA, errB := da.DecodePage(&na, pa), db.DecodePage(&nb, pb)
		switch {
		case errA == io.EOF && errB == io.EOF:
			if err := db.Close(); err != nil {
				return hdr, false, fmt.Errorf("compare LTX files: %w", err)
			}
			return hdr, true, nil
		case errA != nil && errA != io.EOF:
			return hdr, false, fmt.Errorf("compare LTX files: %w", errA)
		case errB != nil && errB != io.EOF:
			return hdr, false, fmt.Errorf("compare LTX files: %w", errB)
		case errA != nil || errB != nil || na.Pgno != nb.Pgno || !bytes.Equal(pa, pb):
			return hdr, false, nil
		}
	}
}
