package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Client asks a running process. Safe for concurrent use; made by Dial.
type Client struct {
	http *http.Client
}

// Dial finds the process that serves dir. The error wraps ErrNotRunning if there is
// none, and ErrUnsafe if another user could be the one who answers. ctx bounds Dial
// only.
func Dial(ctx context.Context, dir string) (*Client, error) {
	if _, err := os.Lstat(filepath.Join(dir, Socket)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w with the state directory %s", ErrNotRunning, dir)
	} else if err != nil {
		return nil, err
	}
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	c := &Client{http: &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: answerTimeout,
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx, dir) },
	}}}
	// A socket left by a crash refuses.
	conn, err := connect(ctx, dir)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w with the state directory %s", ErrNotRunning, dir)
	} else if err != nil {
		return nil, err
	}
	return c, conn.Close()
}

func connect(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := reach(dir, Socket)
	if err != nil {
		return nil, err
	}
	defer done()
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Fleet asks for the sum of all databases.
func (c *Client) Fleet(ctx context.Context, maxLag time.Duration) (Fleet, error) {
	var f Fleet
	return f, c.one(ctx, "fleet", url.Values{"max_lag": {maxLag.String()}}, &f)
}

// Tenant asks for one database. The error wraps ErrNotFound if it is not known.
func (c *Client) Tenant(ctx context.Context, id string) (Tenant, error) {
	var t Tenant
	return t, c.one(ctx, "tenant", url.Values{"id": {id}}, &t)
}

// Tenants asks for every database. An error is the last pair.
func (c *Client) Tenants(ctx context.Context) iter.Seq2[Tenant, error] {
	return func(yield func(Tenant, error) bool) {
		res, err := c.get(ctx, "tenants", nil)
		if err != nil {
			yield(Tenant{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		for dec := json.NewDecoder(res.Body); ; {
			var t Tenant
			if err := dec.Decode(&t); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				yield(Tenant{}, fmt.Errorf("control socket: %w", err))
				return
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (c *Client) one(ctx context.Context, name string, query url.Values, v any) error {
	res, err := c.get(ctx, name, query)
	if err != nil {
		return err
	}
	err = json.NewDecoder(res.Body).Decode(v)
	if err != nil {
		err = fmt.Errorf("control socket: %w", err)
	}
	return errors.Join(err, res.Body.Close())
}

func (c *Client) get(ctx context.Context, name string, query url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://multidb/v1/"+name+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }() // only read from
	var said Error
	switch err := json.NewDecoder(res.Body).Decode(&said); {
	case err != nil && res.StatusCode == http.StatusNotFound: // nothing of this process answered
		return nil, older(res)
	case err != nil:
		return nil, fmt.Errorf("control socket: answered %s", res.Status)
	case res.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, query.Get("id"))
	case res.StatusCode == http.StatusMisdirectedRequest:
		return nil, fmt.Errorf("%w: %s", ErrNotOwner, said.Error)
	}
	return nil, fmt.Errorf("control socket: %s", said.Error)
}
