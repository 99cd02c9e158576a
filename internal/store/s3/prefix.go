package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

var (
	_ litestream.ReplicaClient   = (*Prefix)(nil)
	_ litestream.ReplicaClientV3 = (*Prefix)(nil)
)

// metadataTimestamp holds the time of the LTX header, as litestream writes it.
const metadataTimestamp = "litestream-timestamp"

const metadataFile = "metadata.json"

// Prefix is the part of a bucket that belongs to one database. It has no state
// of its own. Safe for concurrent use.
//
// Every ctx bounds the request with all its retries, and the reading of a
// returned body.
type Prefix struct {
	c    *Client
	root string // clean; empty is the whole bucket
}

// Type returns "s3".
func (p *Prefix) Type() string { return "s3" }

// Init loads the AWS config, as the first request would.
func (p *Prefix) Init(ctx context.Context) error {
	_, err := p.c.api(ctx)
	return p.c.wrap("init", p.root, err)
}

// SetLogger does nothing: this package reports by errors and counters only. It
// is here for litestream.ReplicaClient.
func (p *Prefix) SetLogger(*slog.Logger) {}

// String returns the place as a URL.
func (p *Prefix) String() string { return "s3://" + p.c.cfg.Bucket + "/" + p.root }

// key is the object's key for a name relative to the prefix. For "" it is what
// every key of the prefix begins with: "a/b/" and never "a/b", which "a/b2"
// begins with too.
func (p *Prefix) key(name string) string {
	if p.root == "" {
		return name
	}
	return p.root + "/" + name
}

func ltxName(level int, minTXID, maxTXID ltx.TXID) string {
	return fmt.Sprintf("%04x/%s", level, ltx.FormatFilename(minTXID, maxTXID))
}

// OpenLTXFile opens an LTX file from offset, for size bytes or to its end if
// size is 0. An error wraps fs.ErrNotExist if there is no such file.
func (p *Prefix) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	byteRange := ""
	switch {
	case size > 0:
		byteRange = fmt.Sprintf("bytes=%d-%d", offset, offset+size-1)
	case offset > 0:
		byteRange = fmt.Sprintf("bytes=%d-", offset)
	}
	out, err := p.get(ctx, p.key(ltxName(level, minTXID, maxTXID)), byteRange)
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

func (p *Prefix) get(ctx context.Context, key, byteRange string) (*s3.GetObjectOutput, error) {
	a, err := p.c.api(ctx)
	if err != nil {
		return nil, p.c.wrap("get", key, err)
	}
	in := &s3.GetObjectInput{Bucket: &p.c.cfg.Bucket, Key: &key}
	if byteRange != "" {
		in.Range = &byteRange
	}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = p.c.customerKey()
	out, err := a.GetObject(ctx, in)
	if err != nil {
		return nil, p.c.wrap("get", key, err)
	}
	if out.ETag == nil {
		_ = out.Body.Close() // nothing was written: no error of it matters
		return nil, p.c.foreign("get", key)
	}
	return out, nil
}

// WriteMetadata writes metadata.json, which litestream does not look at.
func (p *Prefix) WriteMetadata(ctx context.Context, data []byte) error {
	key := p.key(metadataFile)
	a, err := p.c.api(ctx)
	if err != nil {
		return p.c.wrap("put", key, err)
	}
	in := p.c.putInput(key)
	in.ContentLength = aws.Int64(int64(len(data)))
	in.ContentType = aws.String("application/json")
	out, err := summed(p.c, func(o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
		in.Body = bytes.NewReader(data)
		return a.PutObject(ctx, in, o...)
	})
	if err == nil && out.ETag == nil {
		return p.c.foreign("put", key)
	}
	return p.c.wrap("put", key, err)
}

// ReadMetadata returns metadata.json. An error wraps fs.ErrNotExist if there is
// none.
func (p *Prefix) ReadMetadata(ctx context.Context) ([]byte, error) {
	key := p.key(metadataFile)
	out, err := p.get(ctx, key, "")
	if err != nil {
		return nil, err
	}
	data, err := untrusted.ReadMetadata(out.Body)
	_ = out.Body.Close() // only read from
	return data, p.c.wrap("get", key, err)
}

// putInput has what every new object is written with.
func (c *Client) putInput(key string) *s3.PutObjectInput {
	in := &s3.PutObjectInput{Bucket: &c.cfg.Bucket, Key: &key, StorageClass: types.StorageClass(c.cfg.StorageClass)}
	in.ServerSideEncryption, in.SSEKMSKeyId = c.encryption()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.customerKey()
	return in
}

func (c *Client) encryption() (types.ServerSideEncryption, *string) {
	if c.cfg.SSEKMSKeyID != "" {
		return types.ServerSideEncryptionAwsKms, &c.cfg.SSEKMSKeyID
	}
	return types.ServerSideEncryption(c.cfg.SSE), nil
}

// customerKey returns algorithm, key and digest of SSE-C; nils without it.
func (c *Client) customerKey() (algorithm, key, digest *string) {
	if c.cfg.SSECustomerKey == "" {
		return nil, nil, nil
	}
	return aws.String("AES256"), &c.cfg.SSECustomerKey, &c.keyMD
}
