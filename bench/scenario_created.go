package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/multidb-go/multidb"
)

func createdScenario(short bool) scenario {
	return scenario{
		name: "created", title: "many databases are created in a burst",
		sizes:   pick(short, []int{2000}, []int{10000}),
		runs:    2,
		multidb: created,
		place:   withS3,
		rows: []row{
			{key: "took", what: "N created by another process (bar: 1,000 a second): it took", unit: inSeconds},
			{key: "after", what: "N created: all in S3 so long after the last", unit: inSeconds, bar: bar{kind: atMost, limit: 5, text: "5 s"}},
			{key: "cpu", what: "N created: CPU for each, multidb alone", unit: inSeconds},
		},
	}
}

// created has another process make 1,000 databases a second, in directories that
// it makes too.
func created(ctx context.Context, sp *spec) (figures, error) { return createdWith(ctx, sp) }

func createdWith(ctx context.Context, sp *spec, opts ...multidb.Option) (_ figures, err error) {
	if err := os.MkdirAll(fleetRoot(sp.Dir), 0o755); err != nil {
		return nil, err
	}
	writer, err := startApp(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.close()) }()
	m, err := startManager(ctx, sp.Dir, append(opts, multidb.WithS3(sp.s3Config()))...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(ctx)) }()
	before, err := sp.control().stats(ctx)
	if err != nil {
		return nil, err
	}
	cpu := cpuTime()
	began := time.Now()
	times, err := writer.do(job{Do: doCreate, Dir: sp.Dir, DBs: upTo(sp.N), Over: time.Duration(sp.N) * time.Millisecond})
	if err != nil {
		return nil, err
	}
	last := times[len(times)-1]
	var st s3Stats
	err = until(ctx, "first copies", 100*time.Millisecond, 5*time.Minute, func() (bool, error) {
		var err error
		st, err = sp.control().stats(ctx)
		return st.Protected >= sp.N, errors.Join(err, m.trouble())
	})
	if err != nil {
		return nil, fmt.Errorf("%d of %d databases are protected: %w", st.Protected, sp.N, err)
	}
	f := figures{
		"took":  float64(last-began.UnixNano()) / 1e9,
		"after": float64(st.LastProtected-last) / 1e9,
		"cpu":   (cpuTime() - cpu) / float64(sp.N),
	}
	f.requests("", st.minus(before))
	return f, nil
}
