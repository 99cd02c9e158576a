package term

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Memory is what this process uses, in bytes.
type Memory struct {
	Live int64 // on the Go heap, in use when it was last collected
	Go   int64 // mapped by the Go runtime and not given back
	RSS  int64 // resident, SQLite's own and the program's pages included; 0 if unknown
}

// ReadMemory reads it without stopping the program.
func ReadMemory() Memory {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	m := Memory{Live: int64(s[2].Value.Uint64()), Go: int64(s[0].Value.Uint64() - s[1].Value.Uint64())}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux only
		if f := strings.Fields(string(b)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				m.RSS = pages * int64(os.Getpagesize())
			}
		}
	}
	return m
}

func (m Memory) String() string {
	if m.RSS == 0 {
		return Bytes(m.Go) + " Go"
	}
	return Bytes(m.Go) + " Go, " + Bytes(m.RSS) + " RSS"
}
