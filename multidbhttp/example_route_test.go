package multidbhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
)

// cluster says who serves what. In a program that is the node's *multidb.Manager.
type cluster struct {
	self   string
	owners map[multidb.ID]multidb.Owner
}

func (c cluster) Owner(_ context.Context, id multidb.ID) (multidb.Owner, error) {
	owner := c.owners[id]
	owner.Self = owner.Node == c.self
	return owner, nil
}

// Two nodes serve one tenant each. Requests may be sent to either of them.
func ExampleRouter() {
	owners := map[multidb.ID]multidb.Owner{}
	start := func(node string) *httptest.Server {
		// In a program: err := m.Do(r.Context(), tenant, serve).
		serve := func(w http.ResponseWriter, r *http.Request) {
			var err error
			if owners[multidb.ID(r.Host)].Node != node {
				err = &multidb.NotOwnerError{ID: multidb.ID(r.Host)}
			}
			if multidbhttp.NotOwner(w, r, err) {
				return
			}
			fmt.Fprintf(w, "%s serves %s", node, r.Host)
		}
		tenant := func(r *http.Request) (multidb.ID, error) {
			if r.Host == "" {
				return "", errors.New("a request without a host")
			}
			return multidb.ID(r.Host), nil
		}
		router, err := multidbhttp.Router(cluster{node, owners}, tenant, http.HandlerFunc(serve), multidbhttp.RouterOptions{
			Secret: "4f9c1fa3e1d24b0c", // the same on all nodes, from where the program keeps its secrets
		})
		if err != nil {
			panic(err)
		}
		return httptest.NewServer(router)
	}
	a, b := start("a"), start("b")
	defer a.Close()
	defer b.Close()
	owners["acme.example.com"] = multidb.Owner{Node: "a", URL: a.URL}
	owners["umbrella.example.com"] = multidb.Owner{Node: "b", URL: b.URL}

	for _, tenant := range []string{"acme.example.com", "umbrella.example.com"} {
		r, err := http.NewRequest("GET", a.URL, nil)
		if err != nil {
			panic(err)
		}
		r.Host = tenant
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(resp.Body)
		fmt.Println(string(body), err, resp.Body.Close())
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// a serves acme.example.com <nil> <nil>
	// b serves umbrella.example.com <nil> <nil>
}
