package multidbhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbprom"
)

// A program serves the page of its Manager on this machine, with metrics, and lets those who
// can open it sync a database.
func ExampleHandler() {
	dir, err := os.MkdirTemp("", "multidbhttp")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	replica, err := multidb.NewFileReplica(filepath.Join(dir, "backups"), "{{project}}/{{database}}/")
	if err != nil {
		fmt.Println(err)
		return
	}
	var events multidbhttp.Events
	m, err := multidb.New(multidb.WithReplica(replica), multidb.WithDiscoverer(multidb.Glob(dir+"/*/*.db")),
		multidb.WithStateDir(filepath.Join(dir, ".state")), multidb.WithObserver(events.Observe))
	if err != nil {
		fmt.Println(err)
		return
	}
	metrics, err := multidbprom.Handler(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := multidbhttp.Handler(m, multidbhttp.Options{
		Metrics: metrics, Events: &events, Verbs: []multidbhttp.Verb{multidbhttp.VerbSync},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	listener, err := server.Listen(ctx, "127.0.0.1:0") // or multidbhttp.DefaultAddr
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	if err := m.Start(ctx); err != nil {
		fmt.Println(err)
	}

	resp, err := http.Get("http://" + listener.Addr().String() + "/readyz")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Print(resp.StatusCode, " ", string(body))
	if err != nil || resp.Body.Close() != nil {
		fmt.Println(err)
	}

	err = m.Close(context.Background()) // meanwhile /readyz says that it is closed
	stop()
	fmt.Println(err, <-served)
	// Output:
	// 200 {"ready":true}
	// <nil> <nil>
}
