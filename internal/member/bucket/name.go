package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/member"
)

const (
	// Dir begins the name of every object of the members.
	Dir = format.MemberDir

	claimed  = "claim"
	maxBody  = 4 << 10
	hashSize = 4 // bytes of the body's SHA-256 in a name
)

// life is one process of one node.
type life struct{ name, life string }

func (l life) String() string { return l.name + "@" + l.life }

// dir begins the names of its objects. It has an @ so that a directory's name never ends in
// .tmp, which stores refuse, though that of a node may.
func (l life) dir() string { return Dir + l.String() + "/" }

// place is what the name of an object tells.
type place struct {
	life   life
	number uint64
	hash   string // of the body; empty: it is a claim
}

func (p place) object() string {
	hash := p.hash
	if hash == "" {
		hash = claimed
	}
	return fmt.Sprintf("%s%016x-%s", p.life.dir(), p.number, hash)
}

// parse reads the name of an object, and reports whether a node has made it.
func parse(object string) (place, bool) {
	rest, ok := strings.CutPrefix(object, Dir)
	if !ok {
		return place{}, false
	}
	dir, base, _ := strings.Cut(rest, "/")
	name, id, _ := strings.Cut(dir, "@")
	m := member.Member{Name: name, Life: id}
	digits, hash, _ := strings.Cut(base, "-")
	if m.Check() != nil || len(digits) != 16 {
		return place{}, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	p := place{life: life{name, id}, number: number, hash: hash}
	if hash == claimed {
		p.hash = ""
	} else if len(hash) != 2*hashSize || strings.Trim(hash, "0123456789abcdef") != "" {
		return place{}, false
	}
	return p, err == nil && p.object() == object // in one way only
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:hashSize])
}

// encode makes the body of a member. The error wraps member.ErrInvalid.
func encode(m member.Member) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", member.ErrInvalid, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("%w: it takes %d bytes to tell of it; want at most %d", member.ErrInvalid, len(body), maxBody)
	}
	return body, nil
}

// decode reads the body that stands at p.
func decode(p place, body []byte) (member.Member, error) {
	var m member.Member
	if len(body) > maxBody {
		return m, fmt.Errorf("%s has more than %d bytes", p.object(), maxBody)
	}
	if hashOf(body) != p.hash {
		return m, fmt.Errorf("%s is not what its name says", p.object())
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%s: %w", p.object(), err)
	}
	if (life{m.Name, m.Life}) != p.life {
		return m, fmt.Errorf("%s has the member %.80q of the life %.80q", p.object(), m.Name, m.Life)
	}
	return m, nil
}
