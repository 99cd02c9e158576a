package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/benbjohnson/litestream/s3"
	"github.com/multidb-go/multidb"
)

const (
	s3Key    = "bench"
	s3Secret = "bench-secret"
	s3Region = "us-east-1"
)

// s3Config is multidb's view of the server.
func (sp *spec) s3Config() multidb.S3Config {
	return multidb.S3Config{
		Bucket: bucket, Path: "{{project}}/{{database}}", Region: s3Region, Endpoint: sp.S3,
		AccessKeyID: s3Key, SecretAccessKey: s3Secret, ForcePathStyle: true,
	}
}

// stockS3 is litestream's client for a database, at the same place.
func (sp *spec) stockS3(i int) *s3.ReplicaClient {
	c := s3.NewReplicaClient()
	c.Bucket, c.Path = bucket, string(fleetID(i))
	c.Region, c.Endpoint, c.ForcePathStyle = s3Region, sp.S3, true
	c.AccessKeyID, c.SecretAccessKey = s3Key, s3Secret
	return c
}

// s3Control asks a server about itself. Every question has a connection of its
// own, so that none stays in what is measured.
type s3Control struct{ url string }

func (sp *spec) control() s3Control { return s3Control{sp.S3} }

func (c s3Control) stats(ctx context.Context) (st s3Stats, err error) {
	return st, c.ask(ctx, pathStats, &st)
}

// record begins a record of what arrives.
func (c s3Control) record(ctx context.Context) error {
	var ok bool
	return c.ask(ctx, pathRecord+"?on=1", &ok)
}

// seqs returns what has arrived since record.
func (c s3Control) seqs(ctx context.Context) (all []arrivedSeq, err error) {
	return all, c.ask(ctx, pathSeqs, &all)
}

// hang makes the server take requests and answer none, until it is ended.
func (c s3Control) hang(ctx context.Context) error {
	var ok bool
	return c.ask(ctx, pathHang+"?on=1", &ok)
}

// delay makes the server wait so long before each answer, as a bucket in the same region does.
func (c s3Control) delay(ctx context.Context, by time.Duration) error {
	var ok bool
	return c.ask(ctx, pathDelay+"?by="+by.String(), &ok)
}

func (c s3Control) ask(ctx context.Context, path string, answer any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return errors.Join(err, fmt.Errorf("S3 server: %s: %s", resp.Status, b))
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
