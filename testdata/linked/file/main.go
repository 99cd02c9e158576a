// A program that replicates to a directory; weight_test.go looks at what it links.
package main

import (
	"context"
	"log"
	"os"

	"github.com/multidb-go/multidb"
)

func main() {
	replica, err := multidb.NewFileReplica(os.Args[1], "{{path}}")
	if err != nil {
		log.Fatal(err)
	}
	m, err := multidb.New(multidb.WithReplica(replica), multidb.WithDiscoverer(multidb.Glob(os.Args[2])))
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := m.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
}
