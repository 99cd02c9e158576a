package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// headConcurrency bounds the goroutines that fetch exact timestamps for one
// listing. The gate bounds them all.
const headConcurrency = 32

// Listing is everything under a prefix, as one paginated LIST found it.
type Listing struct {
	// Files are the LTX files of every level, sorted by level, then by TXID.
	Files []*ltx.FileInfo
	// Exact says that CreatedAt is the time in the LTX headers, not the time of
	// the upload.
	Exact bool

	v3 v3Listing // of backups of litestream v0.3 ("generations/")
}

// AllLTXFiles returns the LTX files of every level, sorted by level, then by
// TXID, by one paginated LIST. With useMetadata, CreatedAt is exact, for one
// HEAD per file; otherwise it is the time of the upload.
func (p *Prefix) AllLTXFiles(ctx context.Context, useMetadata bool) ([]*ltx.FileInfo, error) {
	l, err := p.Listing(ctx, useMetadata)
	if err != nil {
		return nil, err
	}
	return l.Files, nil
}

// Listing lists the prefix. useMetadata is as in AllLTXFiles.
func (p *Prefix) Listing(ctx context.Context, useMetadata bool) (*Listing, error) {
	return p.listing(ctx, useMetadata, untrusted.MaxFiles)
}

// listing is Listing, of at most most files.
func (p *Prefix) listing(ctx context.Context, useMetadata bool, most int) (*Listing, error) {
	l := &Listing{Exact: useMetadata}
	pages, err := p.pages(ctx, "", "")
	if err != nil {
		return nil, err
	}
	for pages.more() {
		objects, err := pages.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			name := strings.TrimPrefix(aws.ToString(o.Key), p.key(""))
			if info := parseLTX(name, o); info != nil {
				l.Files = append(l.Files, info)
			} else {
				l.v3.add(name, o)
			}
		}
		if err := untrusted.CheckFiles(len(l.Files)+l.v3.count, most); err != nil {
			return nil, fmt.Errorf("s3: list %s: %w", p, err)
		}
	}
	slices.SortFunc(l.Files, compareFiles)
	l.v3.sort()
	if useMetadata {
		if err := p.fetchTimes(ctx, l.Files); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func compareFiles(a, b *ltx.FileInfo) int {
	return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
}

// parseLTX returns the LTX file that an object is, nil if it is none. name is
// the key relative to the prefix.
func parseLTX(name string, o types.Object) *ltx.FileInfo {
	dir, file, _ := strings.Cut(name, "/")
	for level := 0; level <= litestream.SnapshotLevel; level++ {
		if dir != fmt.Sprintf("%04x", level) {
			continue
		}
		minTXID, maxTXID, err := ltx.ParseFilename(file)
		if err != nil {
			return nil
		}
		return &ltx.FileInfo{
			Level: level, MinTXID: minTXID, MaxTXID: maxTXID,
			Size: aws.ToInt64(o.Size), CreatedAt: aws.ToTime(o.LastModified).UTC(),
		}
	}
	return nil
}

// fetchTimes replaces the files' upload times by those of their LTX headers. A
// file without one, or gone meanwhile, keeps what it has.
func (p *Prefix) fetchTimes(ctx context.Context, files []*ltx.FileInfo) error {
	if len(files) == 0 {
		return nil
	}
	a, err := p.c.api(ctx)
	if err != nil {
		return p.c.wrap("head", p.key(""), err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	work := make(chan *ltx.FileInfo)
	for range min(headConcurrency, len(files)) {
		wg.Go(func() {
			for info := range work {
				if err := p.fetchTime(ctx, a, info); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, info := range files {
		if ctx.Err() != nil {
			break
		}
		work <- info // workers drain it to the end, failing at once when ctx is over
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

func (p *Prefix) fetchTime(ctx context.Context, a *api, info *ltx.FileInfo) error {
	key := p.key(ltxName(info.Level, info.MinTXID, info.MaxTXID))
	out, err := a.HeadObject(ctx, p.c.headInput(key))
	if err != nil {
		if err = p.c.wrap("head", key, err); isMissing(err) {
			return nil
		}
		return err
	}
	if out.ETag == nil {
		return p.c.foreign("head", key)
	}
	if t, err := time.Parse(time.RFC3339Nano, out.Metadata[metadataTimestamp]); err == nil {
		info.CreatedAt = t
	}
	return nil
}

func (c *Client) headInput(key string) *s3.HeadObjectInput {
	in := &s3.HeadObjectInput{Bucket: &c.cfg.Bucket, Key: &key}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.customerKey()
	return in
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// pager goes through the keys that begin with a prefix, 1,000 a request.
type pager struct {
	c      *Client
	prefix string
	p      *s3.ListObjectsV2Paginator
	place  place
}

// place is where a listing is.
type place struct{ token string }

// moved reports whether a page that is not the last leads to a new place. A store
// that names the same place again would be listed without end.
func (p *place) moved(page *s3.ListObjectsV2Output) bool {
	was := p.token
	p.token = aws.ToString(page.NextContinuationToken)
	return !aws.ToBool(page.IsTruncated) || p.token != was
}

// pages lists the objects under name, a directory with its slash or "", whose
// keys relative to the prefix come after after.
func (p *Prefix) pages(ctx context.Context, name, after string) (*pager, error) {
	prefix := p.key(name)
	a, err := p.c.api(ctx)
	if err != nil {
		return nil, p.c.wrap("list", prefix, err)
	}
	in := &s3.ListObjectsV2Input{Bucket: &p.c.cfg.Bucket, Prefix: &prefix}
	if after != "" {
		in.StartAfter = aws.String(p.key(after))
	}
	return &pager{c: p.c, prefix: prefix, p: s3.NewListObjectsV2Paginator(a, in)}, nil
}

func (g *pager) more() bool { return g.p.HasMorePages() }

func (g *pager) next(ctx context.Context) ([]types.Object, error) {
	page, err := g.p.NextPage(ctx)
	if err != nil {
		return nil, g.c.wrap("list", g.prefix, err)
	}
	if !isListing(page) || !g.place.moved(page) || !allUnder(g.prefix, page.Contents) {
		return nil, g.c.foreign("list", g.prefix)
	}
	return page.Contents, nil
}

// isListing reports whether an answer is one to ListObjectsV2. The SDK takes an
// empty body, and any XML, for a listing without objects, and a page that is
// truncated but does not say where for the last: a backup would look missing.
func isListing(page *s3.ListObjectsV2Output) bool {
	if aws.ToBool(page.IsTruncated) {
		return aws.ToString(page.NextContinuationToken) != ""
	}
	return page.Name != nil || page.IsTruncated != nil || page.KeyCount != nil
}

// allUnder reports whether a listing names only keys that were asked for. A store
// that writes names in another form (Unicode's, a carriage return as a line feed)
// would make its backups look missing.
func allUnder(prefix string, objects []types.Object) bool {
	return !slices.ContainsFunc(objects, func(o types.Object) bool { return !strings.HasPrefix(aws.ToString(o.Key), prefix) })
}

// LTXFiles lists one level from the file whose MinTXID is seek or the next
// greater, sorted by TXID, page by page as the iterator advances. useMetadata is
// as in AllLTXFiles. ctx bounds the whole iteration.
func (p *Prefix) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	dir := fmt.Sprintf("%04x/", level)
	after := ""
	if seek > 0 {
		after = dir + seek.String() // sorts before every file that begins with it
	}
	pages, err := p.pages(ctx, dir, after)
	if err != nil {
		return nil, err
	}
	return &fileIterator{ctx: ctx, p: p, pages: pages, seek: seek, useMetadata: useMetadata}, nil
}

// fileIterator implements ltx.FileIterator. For one goroutine.
type fileIterator struct {
	ctx         context.Context
	p           *Prefix
	pages       *pager
	seek        ltx.TXID
	useMetadata bool

	files  []*ltx.FileInfo // what is left of the page
	item   *ltx.FileInfo
	err    error
	closed bool
}

func (i *fileIterator) Next() bool {
	for len(i.files) == 0 {
		if i.closed || i.err != nil || !i.pages.more() {
			return false
		}
		if i.err = i.load(); i.err != nil {
			return false
		}
	}
	i.item, i.files = i.files[0], i.files[1:]
	return true
}

func (i *fileIterator) load() error {
	objects, err := i.pages.next(i.ctx)
	if err != nil {
		return err
	}
	for _, o := range objects {
		info := parseLTX(strings.TrimPrefix(aws.ToString(o.Key), i.p.key("")), o)
		if info != nil && info.MinTXID >= i.seek {
			i.files = append(i.files, info)
		}
	}
	if i.useMetadata {
		return i.p.fetchTimes(i.ctx, i.files)
	}
	return nil
}

func (i *fileIterator) Item() *ltx.FileInfo { return i.item }

func (i *fileIterator) Err() error { return i.err }

func (i *fileIterator) Close() error {
	i.closed, i.files = true, nil
	return i.err
}
