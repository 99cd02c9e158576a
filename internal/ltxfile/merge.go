package ltxfile

import (
	"errors"
	"fmt"
	"io"

	"github.com/superfly/ltx"
)

// Merge writes LTX files of one page size, which follow each other, as one: what
// ltx.Compactor does, but the file keeps the writer of the last, as well as its time, and
// so can be recognized. It verifies what it reads. A file may be a Packed. At an error what was written is void.
func Merge(w io.Writer, files []io.Reader) (ltx.Header, ltx.Trailer, error) {
	return merge(w, files, 0)
}

// Since writes a file of several transactions as one that begins with a later one of them: applied to the
// state before that it leads to the same state, as each page has its last content.
func Since(w io.Writer, r io.Reader, txid ltx.TXID) error {
	_, _, err := merge(w, []io.Reader{r}, txid)
	return err
}

// merge is Merge, or Since where that is not 0.
func merge(w io.Writer, files []io.Reader, since ltx.TXID) (ltx.Header, ltx.Trailer, error) {
	m := &merger{}
	hdr, err := m.open(files)
	if since != 0 && err == nil {
		if since <= hdr.MinTXID || since > hdr.MaxTXID {
			err = fmt.Errorf("transaction %s is none of those that can be left out of %s to %s", since, hdr.MinTXID, hdr.MaxTXID)
		}
		hdr.MinTXID = since
	}
	if err == nil {
		m.enc, err = ltx.NewEncoder(w)
	}
	if err == nil {
		err = m.enc.EncodeHeader(hdr)
	}
	for more := err == nil; more && err == nil; {
		more, err = m.page(hdr.Commit)
	}
	for _, s := range m.sources {
		if err == nil && !s.packed {
			err = s.dec.Close()
		}
	}
	if err == nil {
		err = m.enc.Close()
	}
	if err != nil {
		return ltx.Header{}, ltx.Trailer{}, fmt.Errorf("merge LTX files: %w", err)
	}
	return hdr, m.enc.Trailer(), nil
}

type merger struct {
	enc     *ltx.Encoder
	sources []*source
}

// source is a file and its next page; a page number of 0 means that it has no more.
type source struct {
	dec    *ltx.Decoder
	packed bool // it has no index and no trailer
	next   ltx.PageHeader
	data   []byte
}

func (s *source) advance() error {
	s.next = ltx.PageHeader{}
	if err := s.dec.DecodePage(&s.next, s.data); !errors.Is(err, io.EOF) {
		return err
	}
	s.next.Pgno = 0
	return nil
}

// open reads the headers, and returns that of the file to come.
func (m *merger) open(files []io.Reader) (hdr ltx.Header, err error) {
	for i, r := range files {
		s := &source{dec: ltx.NewDecoder(r)}
		_, s.packed = r.(Packed)
		s.dec.SetRetainPageIndex(false)
		if err := s.dec.DecodeHeader(); err != nil {
			return hdr, err
		}
		h := s.dec.Header()
		if err := join(&hdr, h, i == 0); err != nil {
			return hdr, err
		}
		s.data = make([]byte, h.PageSize)
		if err := s.advance(); err != nil {
			return hdr, err
		}
		m.sources = append(m.sources, s)
	}
	return hdr, nil
}

// join makes of the header of a file that of one with the next file h too.
func join(hdr *ltx.Header, h ltx.Header, first bool) error {
	if first {
		*hdr = ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: h.PageSize, MinTXID: h.MinTXID}
	} else if h.PageSize != hdr.PageSize || !ltx.IsContiguous(hdr.MaxTXID, h.MinTXID, h.MaxTXID) {
		return fmt.Errorf("transactions %s to %s with pages of %d bytes come after %s with %d", h.MinTXID, h.MaxTXID, h.PageSize, hdr.MaxTXID, hdr.PageSize)
	}
	hdr.Commit, hdr.MaxTXID, hdr.Timestamp, hdr.NodeID = h.Commit, h.MaxTXID, h.Timestamp, h.NodeID
	return nil
}

// page writes the page with the lowest number, as the last file has it, unless the database
// ends before it. It returns false if there is none.
func (m *merger) page(commit uint32) (more bool, err error) {
	var last *source
	for _, s := range m.sources {
		if n := s.next.Pgno; n != 0 && (last == nil || n <= last.next.Pgno) {
			last = s
		}
	}
	if last == nil {
		return false, nil
	}
	pgno := last.next.Pgno
	if pgno <= commit {
		if err := m.enc.EncodePage(last.next, last.data); err != nil {
			return false, err
		}
	}
	for _, s := range m.sources {
		if s.next.Pgno == pgno {
			if err := s.advance(); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}
