// A program that replicates to S3; weight_test.go looks at what it links.
package main

import (
	"context"
	"log"
	"os"

	"github.com/multidb-go/multidb"
)

func main() {
	m, err := multidb.New(multidb.WithS3(multidb.S3Config{Bucket: os.Args[1], Path: "{{path}}"}), multidb.WithDiscoverer(multidb.Glob(os.Args[2])))
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
