package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/superfly/ltx"
)

// store is s3mem, with listings of a database's prefix that read only what they
// list, since those of s3mem read the whole bucket; and with a record of what
// arrived when.
type store struct {
	gofakes3.Backend // not *s3mem.Backend: that also promises versions

	mu        sync.Mutex
	tenants   map[string]*tenant // by the first two segments of the key
	protected int                // tenants with a file
	last      time.Time          // when the last of them got its first
	logging   bool
	arrived   []arrival
	logs      map[uint64]*logOrder // of the fleet log, by epoch
}

// tenant is what a database's prefix holds.
type tenant struct {
	keys []object // sorted by name
	has  bool     // a file that restores
}

// object is a key, and when it was put: what is old is deleted by that.
type object struct {
	key string
	at  time.Time
}

func (t *tenant) search(key string) (int, bool) {
	return slices.BinarySearchFunc(t.keys, key, func(o object, key string) int { return strings.Compare(o.key, key) })
}

// arrival is a level 0 file that was put, or a file in an object of the fleet log.
type arrival struct {
	key          string
	at           time.Time
	prefix       string
	offset, size int64 // in the object; a size of 0: all of it
}

func newStore(bucket string) (*store, error) {
	s := &store{Backend: s3mem.New(), tenants: map[string]*tenant{}, logs: map[uint64]*logOrder{}}
	return s, s.CreateBucket(bucket)
}

// prefixOf is the first two segments of a key; ok is false if it has no more.
func prefixOf(key string) (prefix string, ok bool) {
	i := strings.IndexByte(key, '/')
	if i < 0 {
		return "", false
	}
	j := strings.IndexByte(key[i+1:], '/')
	if j < 0 {
		return "", false
	}
	return key[:i+1+j], true
}

func (s *store) PutObject(bucket, key string, meta map[string]string, in io.Reader, size int64, cond *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	log, in, err := readLog(key, in)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	res, err := s.Backend.PutObject(bucket, key, meta, in, size, cond)
	if err != nil {
		return res, err
	}
	prefix, ok := prefixOf(key)
	if !ok {
		return res, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	t := s.tenants[prefix]
	if t == nil {
		t = &tenant{}
		s.tenants[prefix] = t
	}
	if i, found := t.search(key); found {
		t.keys[i].at = now
	} else {
		t.keys = slices.Insert(t.keys, i, object{key, now})
	}
	if strings.HasSuffix(key, ".ltx") {
		s.protectLocked(t, now)
		if s.logging && strings.HasPrefix(key[len(prefix):], "/0000/") {
			s.arrived = append(s.arrived, arrival{key: key, at: now, prefix: prefix})
		}
	}
	if log != nil {
		s.logLocked(log, now)
	}
	return res, nil
}

// protectLocked notes that a tenant has a file that restores.
func (s *store) protectLocked(t *tenant, now time.Time) {
	if !t.has {
		t.has = true
		s.protected++
		s.last = now
	}
}

func (s *store) CopyObject(srcBucket, src, dstBucket, dst string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(s, srcBucket, src, dstBucket, dst, meta)
}

func (s *store) DeleteObject(bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	res, err := s.Backend.DeleteObject(bucket, key)
	if err == nil {
		s.forget(key)
	}
	return res, err
}

func (s *store) DeleteMulti(bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	res, err := s.Backend.DeleteMulti(bucket, keys...)
	for _, d := range res.Deleted {
		s.forget(d.Key)
	}
	return res, err
}

func (s *store) forget(key string) {
	prefix, ok := prefixOf(key)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tenants[prefix]; t != nil {
		if i, found := t.search(key); found {
			t.keys = slices.Delete(t.keys, i, i+1)
		}
	}
}

func (s *store) ListBucket(bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if prefix == nil || !prefix.HasPrefix {
		return s.Backend.ListBucket(bucket, prefix, page)
	}
	name, ok := prefixOf(prefix.Prefix)
	if !ok {
		return s.Backend.ListBucket(bucket, prefix, page)
	}
	s.mu.Lock()
	var objects []object
	if t := s.tenants[name]; t != nil {
		objects = slices.Clone(t.keys)
	}
	s.mu.Unlock()

	list := gofakes3.NewObjectList()
	var match gofakes3.PrefixMatch
	n, lastPart := int64(0), ""
	for _, obj := range objects {
		key := obj.key
		if key <= page.Marker && page.Marker != "" || !prefix.Match(key, &match) {
			continue
		}
		if match.CommonPrefix && (match.MatchedPart == lastPart || strings.HasPrefix(page.Marker, match.MatchedPart)) {
			continue // told already
		}
		if page.MaxKeys > 0 && n >= page.MaxKeys {
			list.IsTruncated = true
			break
		}
		n++
		list.NextMarker = key
		if match.CommonPrefix {
			lastPart = match.MatchedPart
			list.AddPrefix(lastPart)
			continue
		}
		o, err := s.HeadObject(bucket, key)
		if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
			continue // deleted just now
		} else if err != nil {
			return nil, err
		}
		if err := o.Contents.Close(); err != nil {
			return nil, err
		}
		list.Add(&gofakes3.Content{Key: key, Size: o.Size, ETag: gofakes3.FormatETag(o.Hash),
			LastModified: gofakes3.NewContentTime(obj.at)})
	}
	if !list.IsTruncated {
		list.NextMarker = ""
	}
	return list, nil
}

// record begins a new record of what arrives, or ends it.
func (s *store) record(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logging = on
	if on {
		s.arrived = nil
	}
}

// seqs is what arrived since record: which commit each file has of its database.
func (s *store) seqs(bucket string) ([]arrivedSeq, error) {
	s.mu.Lock()
	arrived := slices.Clone(s.arrived)
	s.mu.Unlock()
	out := make([]arrivedSeq, 0, len(arrived))
	var key string
	var object []byte // of the key
	for _, a := range arrived {
		if a.key != key {
			o, err := s.GetObject(bucket, a.key, nil)
			if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
				continue // compacted and deleted
			} else if err != nil {
				return nil, err
			}
			object, err = io.ReadAll(o.Contents)
			if err := errors.Join(err, o.Contents.Close()); err != nil {
				return nil, err
			}
			key = a.key
		}
		file := object[a.offset:]
		if a.size > 0 {
			file = file[:a.size]
		}
		seq, err := seqIn(bytes.NewReader(file))
		if err != nil {
			return nil, err
		}
		out = append(out, arrivedSeq{Prefix: a.prefix, Seq: seq, At: a.at.UnixNano()})
	}
	return out, nil
}

// seqIn is the highest mark in the pages of an LTX file, -1 if it has none.
func seqIn(r io.Reader) (int, error) {
	dec := ltx.NewDecoder(r)
	if err := dec.DecodeHeader(); err != nil {
		return 0, err
	}
	page := make([]byte, dec.Header().PageSize)
	seq := -1
	for {
		var hdr ltx.PageHeader
		if err := dec.DecodePage(&hdr, page); err == io.EOF {
			return seq, nil
		} else if err != nil {
			return 0, err
		}
		for rest := page; ; {
			i := bytes.Index(rest, []byte(marker))
			if i < 0 || len(rest) < i+len(marker)+digits {
				break
			}
			rest = rest[i+len(marker):]
			if n, err := strconv.Atoi(string(rest[:digits])); err == nil {
				seq = max(seq, n)
			}
		}
	}
}
