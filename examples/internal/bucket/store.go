package bucket

import (
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// store is s3mem with listings that read only what they list. Those of s3mem
// read the whole bucket, which makes the first copies of n databases cost n².
// It has one bucket, without versions.
type store struct {
	gofakes3.Backend // not *s3mem.Backend: that also promises versions

	mu   sync.RWMutex
	keys []key // sorted; may have some whose object is gone
	held int64 // sum of their sizes
}

type key struct {
	name     string
	modified time.Time
	size     int64
}

func newStore(bucket string) (*store, error) {
	s := &store{Backend: s3mem.New()}
	return s, s.CreateBucket(bucket)
}

// search must be called with mu held.
func (s *store) search(name string) (int, bool) {
	return slices.BinarySearchFunc(s.keys, name, func(k key, name string) int { return strings.Compare(k.name, name) })
}

func (s *store) PutObject(bucket, name string, meta map[string]string, in io.Reader, size int64, cond *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	res, err := s.Backend.PutObject(bucket, name, meta, in, size, cond)
	if err != nil {
		return res, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{name, time.Now(), size}
	s.held += size
	if i, found := s.search(name); found {
		s.held -= s.keys[i].size
		s.keys[i] = k
	} else {
		s.keys = slices.Insert(s.keys, i, k)
	}
	return res, nil
}

func (s *store) CopyObject(srcBucket, src, dstBucket, dst string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(s, srcBucket, src, dstBucket, dst, meta)
}

func (s *store) DeleteObject(bucket, name string) (gofakes3.ObjectDeleteResult, error) {
	res, err := s.Backend.DeleteObject(bucket, name)
	if err == nil {
		s.forget(name)
	}
	return res, err
}

func (s *store) DeleteMulti(bucket string, names ...string) (gofakes3.MultiDeleteResult, error) {
	res, err := s.Backend.DeleteMulti(bucket, names...)
	for _, d := range res.Deleted {
		s.forget(d.Key)
	}
	return res, err
}

func (s *store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := s.search(name); found {
		s.held -= s.keys[i].size
		s.keys = slices.Delete(s.keys, i, i+1)
	}
}

// size is how many bytes the objects have.
func (s *store) size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.held
}

func (s *store) ListBucket(bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if prefix == nil || !prefix.HasPrefix || prefix.HasDelimiter {
		return s.Backend.ListBucket(bucket, prefix, page)
	}
	if ok, err := s.BucketExists(bucket); err != nil {
		return nil, err
	} else if !ok {
		return nil, gofakes3.BucketNotFound(bucket)
	}
	list := gofakes3.NewObjectList()
	for _, k := range s.after(prefix.Prefix, page.Marker) {
		o, err := s.HeadObject(bucket, k.name)
		if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
			continue // deleted just now
		} else if err != nil {
			return nil, err
		}
		if err := o.Contents.Close(); err != nil {
			return nil, err
		}
		if n := int64(len(list.Contents)); page.MaxKeys > 0 && n >= page.MaxKeys {
			list.NextMarker, list.IsTruncated = list.Contents[n-1].Key, true
			break
		}
		list.Add(&gofakes3.Content{Key: k.name, Size: o.Size, ETag: gofakes3.FormatETag(o.Hash),
			LastModified: gofakes3.NewContentTime(k.modified)})
	}
	return list, nil
}

// after returns the keys with the prefix that follow the marker.
func (s *store) after(prefix, marker string) []key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from, found := s.search(max(prefix, marker))
	if found && marker >= prefix {
		from++
	}
	to := from
	for to < len(s.keys) && strings.HasPrefix(s.keys[to].name, prefix) {
		to++
	}
	return slices.Clone(s.keys[from:to])
}
