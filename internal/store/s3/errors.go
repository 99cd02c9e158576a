package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/multidb-go/multidb/internal/store"
)

// Why a request failed. Every error of this package that has one of these
// reasons wraps it; its text is one line that says what to fix. Besides, a
// missing object wraps fs.ErrNotExist, an existing one fs.ErrExist, and a request
// whose context ended wraps the context's error.
var (
	ErrNoBucket      = errors.New("bucket does not exist")
	ErrAccessDenied  = errors.New("access denied")
	ErrNoCredentials = errors.New("no credentials")
	ErrUnreachable   = errors.New("endpoint unreachable")
	ErrWrongRegion   = errors.New("wrong region")
	ErrThrottled     = errors.New("throttled")
	ErrArchived      = errors.New("object is archived")

	ErrNoConditionalWrites = store.ErrNoConditionalWrites
)

// Error is a failed operation. Its text never holds a secret.
type Error struct {
	Op   string // "put", "get", "list", …
	Key  string // object or prefix; empty if the bucket is meant
	Msg  string // one line: what happened and what to do
	Kind error  // one of the sentinels above, or nil
	Err  error  // the cause
}

func (e *Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("s3: %s: %s", e.Op, e.Msg)
	}
	return fmt.Sprintf("s3: %s %s: %s", e.Op, e.Key, e.Msg)
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

const (
	codeConditionalConflict = "ConditionalRequestConflict"

	maxForeignText = 300 // bytes of a server's message that an error repeats
)

// wrap turns a failure of the SDK into one line that says what to fix.
func (c *Client) wrap(op, key string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	if (op == "get" || op == "head" || op == "delete") && isNotExist(err) {
		return notExist(op, c.cfg.Bucket, key)
	}
	e := &Error{Op: op, Key: key, Err: err}
	e.Kind, e.Msg = c.explain(err)
	return e
}

// notExist is a PathError because os.IsNotExist, which litestream calls, looks
// into no other kind.
func notExist(op, bucket, key string) error {
	return &fs.PathError{Op: "s3: " + op, Path: "s3://" + bucket + "/" + key, Err: fs.ErrNotExist}
}

// foreign returns the error for an answer that looks like success but that no S3
// store gives: a login page, a console's port, a proxy. An S3 store sends an ETag
// whenever an object is written or read, and a listing says what it lists.
func (c *Client) foreign(op, key string) error {
	where := c.cfg.Endpoint
	if a := c.loaded.Load(); a != nil {
		where = a.where
	}
	return &Error{Op: op, Key: key, Kind: ErrUnreachable,
		Msg: fmt.Sprintf("what answers at %s is no S3 store: correct Endpoint, or see what stands before it", where)}
}

func exists(op, bucket, key string) error {
	return &fs.PathError{Op: "s3: " + op, Path: "s3://" + bucket + "/" + key, Err: fs.ErrExist}
}

//lint:ignore ST1008 the error is what was classified, not a failure of this function
func (c *Client) explain(err error) (kind error, msg string) {
	where := c.cfg.Endpoint
	if a := c.loaded.Load(); a != nil {
		where = a.where
	}
	var creds *credentialsError
	if errors.As(err, &creds) {
		return ErrNoCredentials, "no credentials found: set AccessKeyID and SecretAccessKey, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or Anonymous (" + c.clean(creds.Error()) + ")"
	}
	if status := statusOf(err); status != 0 {
		return c.explainAnswer(err, status, where)
	}
	return c.explainNetwork(err, where)
}

// explainAnswer explains an error the store answered with. A HEAD request's
// answer has no code, only a status.
//
//lint:ignore ST1008 the error is what was classified, not a failure of this function
func (c *Client) explainAnswer(err error, status int, where string) (error, string) {
	code, text := codeOf(err), ""
	var api smithy.APIError
	if errors.As(err, &api) {
		text = c.clean(api.ErrorMessage())
	}
	bucket := c.cfg.Bucket
	switch code {
	case "InvalidObjectState": // with status 403
		class := ""
		var state *types.InvalidObjectState
		if errors.As(err, &state) && state.StorageClass != "" {
			class = ", storage class " + c.clean(string(state.StorageClass))
		}
		return ErrArchived, fmt.Sprintf("the object is archived in bucket %q%s: have the store restore it (RestoreObject) before it is read, and let no lifecycle rule archive backups", bucket, class)
	case "NoSuchBucket":
		return ErrNoBucket, fmt.Sprintf("bucket %q does not exist at %s: create it, or correct Bucket", bucket, where)
	case "InvalidBucketName":
		return ErrNoBucket, fmt.Sprintf("%q is not a valid bucket name: correct Bucket", bucket)
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the second is versitygw's, with status 404
		return ErrAccessDenied, fmt.Sprintf("the access key is not known at %s: correct AccessKeyID", where)
	case "SignatureDoesNotMatch":
		return ErrAccessDenied, fmt.Sprintf("%s refuses the signature: correct SecretAccessKey", where)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return ErrAccessDenied, fmt.Sprintf("the session token is expired or wrong (%s): renew SessionToken", code)
	case "RequestTimeTooSkewed":
		return ErrAccessDenied, fmt.Sprintf("the clock of this machine differs from that of %s: correct it", where)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		return ErrWrongRegion, c.wrongRegion(err, text)
	}
	switch status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return ErrWrongRegion, c.wrongRegion(err, text)
	case http.StatusUnauthorized, http.StatusForbidden:
		if code == "" || code == "Forbidden" {
			code = http.StatusText(status)
		}
		return ErrAccessDenied, fmt.Sprintf("%s denies access to bucket %q (%s): correct the credentials, or allow them to list, read, write and delete here", where, bucket, code)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return ErrThrottled, fmt.Sprintf("%s throttles requests (%d %s)", where, status, code)
	}
	msg := fmt.Sprintf("%s answered %d", where, status)
	if code != "" && code != "UnknownError" {
		msg += " " + code
	}
	if text != "" && text != "UnknownError" {
		msg += ": " + text
	}
	var re *awshttp.ResponseError
	if errors.As(err, &re) && re.RequestID != "" {
		msg += " (request " + c.clean(re.RequestID) + ")"
	}
	return nil, msg
}

func (c *Client) wrongRegion(err error, text string) string {
	region := ""
	if a := c.loaded.Load(); a != nil {
		region = a.region
	}
	msg := fmt.Sprintf("bucket %q is not in region %q", c.cfg.Bucket, region)
	var re *awshttp.ResponseError
	if errors.As(err, &re) && re.Response != nil {
		if is := re.Response.Header.Get("X-Amz-Bucket-Region"); is != "" {
			return fmt.Sprintf("%s but in %q: correct Region", msg, c.clean(is))
		}
	}
	if text != "" {
		msg += " (" + text + ")"
	}
	return msg + ": correct Region"
}

// explainNetwork explains a request that got no answer.
//
//lint:ignore ST1008 the error is what was classified, not a failure of this function
func (c *Client) explainNetwork(err error, where string) (error, string) {
	var (
		dns    *net.DNSError
		record tls.RecordHeaderError
		issuer x509.UnknownAuthorityError
		host   x509.HostnameError
		cert   *tls.CertificateVerificationError
		stall  *stallError
		timed  interface{ Timeout() bool }
		opErr  *net.OpError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Sprintf("no answer from %s before the deadline", where)
	case errors.As(err, &dns):
		return ErrUnreachable, fmt.Sprintf("host %q of %s is not found: correct Endpoint, Bucket or Region, or the network", dns.Name, where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrUnreachable, fmt.Sprintf("%s refuses connections: start the server, or correct Endpoint", where)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return ErrUnreachable, fmt.Sprintf("%s does not speak TLS: write http:// in Endpoint", where)
	case errors.As(err, &issuer), errors.As(err, &host), errors.As(err, &cert):
		return ErrUnreachable, fmt.Sprintf("the certificate of %s is not trusted (%s): correct Endpoint, or name its authority in AWS_CA_BUNDLE", where, c.clean(innermost(err).Error()))
	case errors.As(err, &stall):
		return ErrUnreachable, fmt.Sprintf("%s does not answer (%s): check the server, the network and Endpoint", where, stall)
	case errors.As(err, &timed) && timed.Timeout():
		return ErrUnreachable, fmt.Sprintf("no answer from %s: check the network and Endpoint", where)
	case errors.As(err, &opErr), isConnectionError(err):
		return ErrUnreachable, fmt.Sprintf("the connection to %s failed (%s)", where, c.clean(innermost(err).Error()))
	}
	return nil, c.clean(err.Error())
}

func isConnectionError(err error) bool {
	var e interface{ ConnectionError() bool }
	return errors.As(err, &e) && e.ConnectionError()
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// clean makes foreign text fit for an error: one line, not endless, no secret.
func (c *Client) clean(s string) string {
	for _, secret := range []string{c.cfg.SecretAccessKey, c.cfg.SessionToken, c.cfg.SSECustomerKey} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[secret]")
		}
	}
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxForeignText {
		s = strings.ToValidUTF8(s[:maxForeignText], "") + "…"
	}
	return s
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// statusOf is the HTTP status the store answered with, 0 if it did not.
func statusOf(err error) int {
	var e interface{ HTTPStatusCode() int }
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

// isNotExist reports whether the store answered that the object is not there.
func isNotExist(err error) bool {
	switch codeOf(err) {
	case "NoSuchKey", "NotFound":
		return true
	}
	return false
}
