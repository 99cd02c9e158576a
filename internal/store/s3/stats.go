package s3

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/aws/smithy-go/middleware"
)

// Stats counts HTTP requests since the client was made. Every attempt counts,
// retries included; requests for credentials do not.
type Stats struct {
	Put, Get, List, Head, Delete int64 // requests by kind
	Errors                       int64 // requests that failed; 404 and 412 are answers, a cancellation by the caller is none
	Throttled                    int64 // 503 and 429 answers
	BytesOut, BytesIn            int64 // bodies, in bytes
}

// counters is the live form of Stats. Safe for concurrent use.
type counters struct {
	put, get, list, head, delete atomic.Int64
	errors, throttled            atomic.Int64
	bytesOut, bytesIn            atomic.Int64
}

func (c *counters) snapshot() Stats {
	return Stats{
		Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Head: c.head.Load(), Delete: c.delete.Load(),
		Errors: c.errors.Load(), Throttled: c.throttled.Load(),
		BytesOut: c.bytesOut.Load(), BytesIn: c.bytesIn.Load(),
	}
}

// request counts one attempt. The kind follows S3's price list: the calls of a
// multipart upload are puts, although the protocol has POST and GET among them.
func (c *counters) request(ctx context.Context, method string) {
	switch middleware.GetOperationName(ctx) {
	case opList, opListVersions, opListUploads:
		c.list.Add(1)
		return
	case opDeleteMany:
		c.delete.Add(1)
		return
	}
	switch method {
	case http.MethodGet:
		c.get.Add(1)
	case http.MethodHead:
		c.head.Add(1)
	case http.MethodDelete:
		c.delete.Add(1)
	default:
		c.put.Add(1)
	}
}

// Operations that are told apart by name.
const (
	opGet          = "GetObject"
	opList         = "ListObjectsV2"
	opListVersions = "ListObjectVersions"
	opListUploads  = "ListMultipartUploads"
	opDeleteMany   = "DeleteObjects"
)
