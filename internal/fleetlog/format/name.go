package format

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/multidb-go/multidb/internal/untrusted"
)

const (
	// MapDir, LargeDir and MemberDir begin the names of maps, of large files, and of what
	// the nodes of a cluster say of themselves, which is package member/bucket's.
	MapDir    = "map/"
	LargeDir  = "large/"
	MemberDir = "member/"

	// Shards is how many shards there are. It is part of the format.
	Shards = 1024

	// MaxPrefix is how many bytes a tenant's prefix has at most: what S3 allows for
	// a key, of which a prefix is the beginning.
	MaxPrefix = 1024
)

// LogDir is what the names of the objects of one log begin with.
func LogDir(epoch uint64) string { return fmt.Sprintf("%016x/", epoch) }

// ObjectName is the name of a log object or seal.
func ObjectName(epoch, seq uint64) string { return fmt.Sprintf("%016x/%016x", epoch, seq) }

// LargeName is the name of a large file.
func LargeName(epoch, number uint64) string {
	return fmt.Sprintf("%s%016x/%016x", LargeDir, epoch, number)
}

// MapName is the name of a map.
func MapName(number uint64) string { return fmt.Sprintf("%s%016x", MapDir, number) }

// ParseObjectName reads a name that ObjectName has made, and reports whether it was one.
func ParseObjectName(name string) (epoch, seq uint64, ok bool) {
	dir, base, ok := strings.Cut(name, "/")
	if !ok {
		return 0, 0, false
	}
	if epoch, ok = parseNumber(dir); !ok {
		return 0, 0, false
	}
	if seq, ok = parseNumber(base); !ok {
		return 0, 0, false
	}
	return epoch, seq, true
}

// ParseLargeName reads a name that LargeName has made, and reports whether it was one.
func ParseLargeName(name string) (epoch, number uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, LargeDir)
	if !ok {
		return 0, 0, false
	}
	return ParseObjectName(rest)
}

// ParseMapName reads a name that MapName has made, and reports whether it was one.
func ParseMapName(name string) (number uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, MapDir)
	if !ok {
		return 0, false
	}
	return parseNumber(rest)
}

func parseNumber(s string) (uint64, bool) {
	if len(s) != 16 || strings.ToLower(s) != s {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil && n > 0
}

// Shard is the shard that a prefix belongs to: the first ten bits of the SHA-256 of its
// bytes. It never changes, or two owners would write one tenant.
func Shard(prefix string) int {
	sum := sha256.Sum256([]byte(prefix))
	return int(binary.BigEndian.Uint16(sum[:]) >> 6)
}

// checkPrefix refuses what is no prefix of a tenant: it becomes the beginning of keys and
// of file names, and must not lead out of the replica.
func checkPrefix(prefix string) error {
	bad := len(prefix) > MaxPrefix || strings.ContainsAny(prefix, "\x00")
	for segment := range strings.SplitSeq(prefix, "/") {
		bad = bad || segment == "" || segment == "." || segment == ".."
	}
	if bad {
		return fmt.Errorf("%w: a log names the prefix %.80q", untrusted.ErrDamaged, prefix)
	}
	return nil
}
