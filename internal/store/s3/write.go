package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/superfly/ltx"
)

// WriteLTXFile writes an LTX file, all of it or nothing: where r fails, no
// object appears, and the error wraps that of r.
//
// Every level is create-only: if the file exists it stays as it is and the error
// wraps fs.ErrExist, whatever it holds. If the answer to a request of this very call
// was lost and its retry finds the object, the object is read and compared: the call
// succeeds if it holds the bytes of r.
//
// A seekable r is sent as it is, in one request up to 64 MiB; of any other,
// Config.PartSize bytes are buffered. Anything larger is sent in parts.
func (p *Prefix) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	u := &upload{c: p.c, key: p.key(ltxName(level, minTXID, maxTXID))}
	var err error
	if u.conditional, err = p.c.conditional(ctx, p); err != nil {
		return nil, err
	}
	if err := u.run(ctx, r); err != nil {
		return nil, err
	}
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: u.size, CreatedAt: u.createdAt}, nil
}

// upload is one WriteLTXFile.
type upload struct {
	c           *Client
	key         string
	conditional bool // the store honors If-None-Match; else look before the write
	plain       bool // no LTX file, and without the time of one

	size      int64
	createdAt time.Time // of the LTX header
}

func (u *upload) run(ctx context.Context, r io.Reader) error {
	if body, size, ok, err := sized(r); err != nil {
		return u.failed(fmt.Errorf("seek in source: %w", err))
	} else if ok {
		if err := u.readHeader(body); err != nil {
			return err
		}
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return u.failed(fmt.Errorf("seek in source: %w", err))
		}
		if size <= singlePutMax {
			return u.single(ctx, body, size)
		}
		return u.multipart(ctx, sections(body, max(singlePutMax, (size+maxParts-1)/maxParts), size))
	}

	var buf bytes.Buffer
	_, err := io.CopyN(&buf, r, u.c.cfg.PartSize)
	if err != nil && err != io.EOF {
		return u.failed(fmt.Errorf("read source: %w", err))
	}
	if err := u.readHeader(bytes.NewReader(buf.Bytes())); err != nil {
		return err
	}
	if err == io.EOF {
		return u.single(ctx, bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	}
	return u.multipart(ctx, buffered(&buf, r, u.c.cfg.PartSize))
}

// sized returns a window on what is left of r, if r can tell how much that is.
func sized(r io.Reader) (_ *io.SectionReader, size int64, ok bool, err error) {
	rs, seekable := r.(io.Seeker)
	ra, random := r.(io.ReaderAt)
	if !seekable || !random {
		return nil, 0, false, nil
	}
	start, err := rs.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, false, nil // a pipe behind an *os.File: nothing is consumed
	}
	end, err := rs.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, false, err
	}
	return io.NewSectionReader(ra, start, end-start), end - start, true, nil
}

// readHeader takes the time from the LTX header, as litestream does, so that a
// restore to a point in time is exact whenever the file was uploaded.
func (u *upload) readHeader(r io.Reader) error {
	if u.plain {
		return nil
	}
	hdr, _, err := ltx.PeekHeader(r)
	if err != nil {
		return u.failed(fmt.Errorf("read LTX header: %w", err))
	}
	u.createdAt = time.UnixMilli(hdr.Timestamp).UTC()
	return nil
}

// failed reports what is wrong with the source.
func (u *upload) failed(err error) error {
	return &Error{Op: "put", Key: u.key, Msg: u.c.clean(err.Error()), Err: err}
}

func (u *upload) input() *s3.PutObjectInput {
	in := u.c.putInput(u.key)
	if u.plain {
		return in
	}
	in.Metadata = map[string]string{metadataTimestamp: u.createdAt.Format(time.RFC3339Nano)}
	return in
}

func (u *upload) single(ctx context.Context, body io.ReadSeeker, size int64) error {
	a, err := u.c.api(ctx)
	if err != nil {
		return u.c.wrap("put", u.key, err)
	}
	in := u.input()
	in.Body, in.ContentLength = body, aws.Int64(size)
	u.size = size
	if u.conditional {
		in.IfNoneMatch = aws.String("*")
	} else if err := u.look(ctx, a); err != nil {
		return err
	}
	ctx, call := withCall(ctx)
	out, err := summed(u.c, func(o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, u.failed(fmt.Errorf("seek in source: %w", err))
		}
		return a.PutObject(ctx, in, o...)
	})
	if err == nil && out.ETag == nil {
		return u.c.foreign("put", u.key)
	} else if err == nil {
		return nil
	}
	return u.settle(ctx, call, err, func() ([]byte, error) {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err := io.Copy(h, body)
		return h.Sum(nil), err
	})
}

// settle decides what a failed write means. A request that was retried may have
// succeeded the first time, its answer lost: then the object is there and ours,
// and the store's refusal of the retry is no failure.
func (u *upload) settle(ctx context.Context, call *call, cause error, ours func() ([]byte, error)) error {
	conflict := codeOf(cause) == codeConditionalConflict
	there := statusOf(cause) == http.StatusPreconditionFailed
	done := codeOf(cause) == "NoSuchUpload" // completed by the lost request
	switch {
	case there && call.attempts <= 1:
		return exists("put", u.c.cfg.Bucket, u.key)
	case there, conflict, done && call.attempts > 1:
	default:
		return u.c.wrap("put", u.key, cause)
	}

	p := &Prefix{c: u.c}
	out, err := p.get(ctx, u.key, "")
	if isMissing(err) {
		return u.c.wrap("put", u.key, cause) // gone again, or never there
	} else if err != nil {
		return errors.Join(u.c.wrap("put", u.key, cause), err)
	}
	same, err := u.sameAs(out, ours)
	switch {
	case err != nil:
		return errors.Join(u.c.wrap("put", u.key, cause), err)
	case same:
		return nil
	}
	return exists("put", u.c.cfg.Bucket, u.key)
}

func (u *upload) sameAs(out *s3.GetObjectOutput, ours func() ([]byte, error)) (bool, error) {
	defer out.Body.Close() // only read from
	if n := out.ContentLength; n != nil && *n != u.size {
		return false, nil
	}
	sum, err := ours()
	if err != nil {
		return false, u.failed(fmt.Errorf("read source again: %w", err))
	}
	h := sha256.New()
	n, err := io.Copy(h, out.Body)
	if err != nil {
		return false, u.c.wrap("get", u.key, err)
	}
	return n == u.size && bytes.Equal(sum, h.Sum(nil)), nil
}

// nextPart returns the parts of an object in order, io.EOF after the last. A
// part is valid until the next call.
type nextPart func() (body io.ReadSeeker, size int64, err error)

// sections cuts a sized source without copying it.
func sections(r io.ReaderAt, part, size int64) nextPart {
	var off int64
	return func() (io.ReadSeeker, int64, error) {
		n := min(part, size-off)
		if n == 0 {
			return nil, 0, io.EOF
		}
		s := io.NewSectionReader(r, off, n)
		off += n
		return s, n, nil
	}
}

// buffered cuts a stream, of which buf already holds the first part.
func buffered(buf *bytes.Buffer, r io.Reader, part int64) nextPart {
	first := true
	return func() (io.ReadSeeker, int64, error) {
		if !first {
			buf.Reset()
			if _, err := io.CopyN(buf, r, part); err != nil && err != io.EOF {
				return nil, 0, err
			}
		}
		first = false
		if buf.Len() == 0 {
			return nil, 0, io.EOF
		}
		return bytes.NewReader(buf.Bytes()), int64(buf.Len()), nil
	}
}

// look fails with fs.ErrExist if the object is there.
func (u *upload) look(ctx context.Context, a *api) error {
	out, err := a.HeadObject(ctx, u.c.headInput(u.key))
	switch {
	case err == nil && out.ETag == nil:
		return u.c.foreign("head", u.key)
	case err == nil:
		return exists("put", u.c.cfg.Bucket, u.key)
	case !isNotExist(err):
		return u.c.wrap("head", u.key, err)
	}
	return nil
}

const abortTimeout = 10 * time.Second

// multipart sends the parts one after another. The object appears only when all
// are there; a failure frees what was sent.
func (u *upload) multipart(ctx context.Context, next nextPart) (err error) {
	a, err := u.c.api(ctx)
	if err != nil {
		return u.c.wrap("put", u.key, err)
	}
	// A store that honors the condition at the end would take all the parts first.
	if err := u.look(ctx, a); err != nil {
		return err
	}
	put := u.input()
	create := &s3.CreateMultipartUploadInput{
		Bucket: put.Bucket, Key: put.Key, Metadata: put.Metadata, StorageClass: put.StorageClass,
		ServerSideEncryption: put.ServerSideEncryption, SSEKMSKeyId: put.SSEKMSKeyId,
		SSECustomerAlgorithm: put.SSECustomerAlgorithm, SSECustomerKey: put.SSECustomerKey, SSECustomerKeyMD5: put.SSECustomerKeyMD5,
	}
	if a.Options().RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired {
		// AWS refuses the checksums the SDK adds to parts unless they are announced.
		create.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32
	}
	up, err := a.CreateMultipartUpload(ctx, create)
	if err != nil {
		return u.c.wrap("put", u.key, err)
	} else if up.UploadId == nil {
		return u.c.foreign("put", u.key)
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_, abortErr := a.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: put.Bucket, Key: put.Key, UploadId: up.UploadId})
		if abortErr != nil && codeOf(abortErr) != "NoSuchUpload" {
			err = errors.Join(err, u.c.wrap("abort the upload of", u.key, abortErr))
		}
	}()

	parts, sum, err := u.sendParts(ctx, a, put, up.UploadId, next)
	if err != nil {
		return err
	}
	// Some stores honor the condition of a PUT and ignore that of the completion.
	// The parts may have taken minutes: looking again leaves them one round trip.
	if err := u.look(ctx, a); err != nil {
		return err
	}
	complete := &s3.CompleteMultipartUploadInput{
		Bucket: put.Bucket, Key: put.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		SSECustomerAlgorithm: put.SSECustomerAlgorithm, SSECustomerKey: put.SSECustomerKey, SSECustomerKeyMD5: put.SSECustomerKeyMD5,
	}
	if u.conditional {
		complete.IfNoneMatch = aws.String("*")
	}
	ctx, call := withCall(ctx)
	out, err := a.CompleteMultipartUpload(ctx, complete)
	if err == nil && out.ETag == nil {
		return u.c.foreign("put", u.key)
	} else if err == nil {
		return nil
	}
	return u.settle(ctx, call, err, func() ([]byte, error) { return sum, nil })
}

func (u *upload) sendParts(ctx context.Context, a *api, put *s3.PutObjectInput, id *string, next nextPart) (parts []types.CompletedPart, sum []byte, err error) {
	h := sha256.New() // the stream cannot be read again for settle
	for {
		body, size, err := next()
		if err == io.EOF {
			return parts, h.Sum(nil), nil
		} else if err != nil {
			return nil, nil, u.failed(fmt.Errorf("read source: %w", err))
		}
		if len(parts) == maxParts {
			return nil, nil, u.failed(fmt.Errorf("more than %d parts of %d bytes: raise PartSize", maxParts, u.c.cfg.PartSize))
		}
		if _, err := io.Copy(h, body); err != nil {
			return nil, nil, u.failed(fmt.Errorf("read source: %w", err))
		}
		n := aws.Int32(int32(len(parts) + 1))
		out, err := summed(u.c, func(o ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
			if _, err := body.Seek(0, io.SeekStart); err != nil {
				return nil, u.failed(fmt.Errorf("seek in source: %w", err))
			}
			return a.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: put.Bucket, Key: put.Key, UploadId: id, PartNumber: n, Body: body, ContentLength: aws.Int64(size),
				SSECustomerAlgorithm: put.SSECustomerAlgorithm, SSECustomerKey: put.SSECustomerKey, SSECustomerKeyMD5: put.SSECustomerKeyMD5,
			}, o...)
		})
		if err != nil {
			return nil, nil, u.c.wrap("put", u.key, err)
		} else if out.ETag == nil {
			return nil, nil, u.c.foreign("put", u.key)
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: n, ChecksumCRC32: out.ChecksumCRC32})
		u.size += size
	}
}
