// Package etcdmembership keeps the members of a multidb cluster in etcd. It is a module of its own, so that
// nobody else depends on etcd.
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: …, TLS: …, Username: …})
//	members, err := etcdmembership.New(client, etcdmembership.Config{Prefix: "/billing/members/"})
//	m, err := multidb.New(multidb.WithCluster(multidb.ClusterConfig{Membership: members, …}), …)
//
// # etcd, or the bucket
//
// Take the bucket, which is the default, if nothing speaks against it: it needs nothing that is not there
// already. A node that dies is found out after 9 to 12 seconds, and each node makes two requests every three seconds,
// which is 0.29 USD a day on S3.
//
// Take etcd if you already run it, as for Kubernetes of your own, and want one of these: a dead node is found out after TTL (5
// seconds by default, and a second or two of etcd's own), a change is known everywhere within milliseconds, a hundred nodes and more
// cost no listing of all of them each time, or the store charges for requests.
//
// What is promised about data is the same with both: the fleet log decides who owns a database. If etcd is away, nodes
// keep the members that they knew, and go on serving; a node that dies meanwhile is found out when etcd is back.
//
// # What is in etcd
//
// A node has a lease of TTL, and one key, Prefix and its name, which is bound to the lease and is created only where
// there is none: so one name is one node's. The value is the Member as JSON. A node follows the keys by a
// watch; after a compaction it reads them anew. A node that loses its lease, since it slept or was cut off for longer than TTL, or
// as etcd has lost its data, takes a new one and creates its key again. If another process has the name by then, the session's Err wraps multidb.ErrNameTaken,
// and it tries on until the name is free. Those that were known before a lease was lost, and
// whose keys are not there when it has a new one, count as members for one TTL more: if etcd has lost its data they
// come back one after another.
//
// A user of etcd needs permission to read and write the range of keys below Prefix. TLS, credentials and timeouts of connections are those of the
// client, which is closed by who made it, after the Manager.
package etcdmembership
