package multidb

// ReplicaIdentity is an optional interface of a ReplicaFactory whose storage can
// be away without an error, such as a directory whose volume is not mounted. It
// tells its storage from any other by an identity, which is made once and kept
// in it, and refuses to read or write where that is not found.
//
// Start calls Identify, before any client is used, with a memory in the state
// directory. Safe for concurrent use.
type ReplicaIdentity interface {
	Identify(memory IdentityMemory) error
}

// IdentityMemory keeps the identity of each place between the runs of a program.
// Safe for concurrent use.
type IdentityMemory interface {
	// Recall returns the identity of a place, "" if none is known.
	Recall(place string) (identity string, err error)
	// Remember keeps the identity of a place; when it returns nil it is on disk.
	// An error that wraps ErrClosed says that this memory is no longer used.
	Remember(place, identity string) error
	// Name says where it is, for messages that say what to delete.
	Name() string
}
