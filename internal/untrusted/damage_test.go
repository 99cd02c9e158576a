package untrusted

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"
)

func TestNoRandomDamagePanicsOrCostsMuchMemory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, whole := range [][]byte{file(t, 3), oldFile(t, 3)} {
		for range 3000 {
			data := bytes.Clone(whole)
			for range 1 + rnd.IntN(3) {
				data[rnd.IntN(len(data))] = byte(rnd.Uint32())
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := decode(NewLTX(bytes.NewReader(data[:len(data)-rnd.IntN(2)*rnd.IntN(len(data))])))
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Fatalf("%d bytes were allocated for %d (%v)", n, len(data), err)
			}
		}
	}
}
