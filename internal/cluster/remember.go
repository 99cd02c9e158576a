package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/multidb-go/multidb/internal/durable"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// mostLives is how many former lives are remembered: those of processes that were started and
// died before they had joined count too.
const mostLives = 16

// remembered is what the file holds.
type remembered struct {
	Format int      `json:"format"`
	Node   string   `json:"node"`
	Lives  []string `json:"lives"` // the last one last
}

// Remember gives this process a life, and notes it in a file of the state directory, which no
// other process uses at this time: so the lives that it finds there have ended, the last one last.
// Their logs can be taken over at once. If the state directory may be a copy, they may be those
// of a process that lives elsewhere: copied.
func Remember(path, node string, copied bool) (life format.ID, ended []format.ID, err error) {
	_, _ = rand.Read(life[:]) // never fails (crypto/rand)
	var was remembered
	switch b, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return life, nil, err
	case len(b) > 1<<16 || json.Unmarshal(b, &was) != nil:
		was = remembered{} // then others take over what it names, when they find that it is silent
	}
	if copied {
		was.Lives = nil
	}
	for _, text := range was.Lives {
		var id format.ID
		if b, err := hex.DecodeString(text); err == nil && len(b) == len(id) {
			copy(id[:], b)
			ended = append(ended, id)
		}
	}
	if len(ended) >= mostLives {
		ended = slices.Clone(ended[len(ended)-mostLives+1:])
	}
	now := remembered{Format: 1, Node: node}
	for _, id := range append(slices.Clone(ended), life) {
		now.Lives = append(now.Lives, Name(id))
	}
	b, err := json.Marshal(now)
	if err != nil {
		return life, nil, err
	}
	if err := durable.ReplaceFile(path, b); err != nil {
		return life, nil, fmt.Errorf("remember the life of node %q: %w", node, err)
	}
	return life, ended, nil
}

// Name is a life as text.
func Name(life format.ID) string { return hex.EncodeToString(life[:]) }
