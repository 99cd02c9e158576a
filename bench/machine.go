package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// machine is one line about where the figures come from.
func machine() (string, error) {
	cpu, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		cpu = "an unnamed CPU" // only some architectures name it
	}
	mem, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return "", err
	}
	kb, err := strconv.ParseFloat(strings.TrimSuffix(mem, " kB"), 64)
	if err != nil {
		return "", fmt.Errorf("memory of %q: %w", mem, err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d cores, %.0f GB of memory, Linux %s, %s, %s/%s",
		cpu, runtime.NumCPU(), kb/(1<<20), bytes.TrimSpace(kernel), runtime.Version(), runtime.GOOS, runtime.GOARCH), nil
}

// field is the first value of a name in a file of "name: value" lines.
func field(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("%s has no %q", path, name)
}

// versions names what is compared.
func versions() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return "litestream and SQLite of unknown versions"
	}
	v := map[string]string{}
	for _, d := range bi.Deps {
		v[d.Path] = d.Version
	}
	return fmt.Sprintf("litestream %s, modernc.org/sqlite %s, gofakes3 %s",
		v["github.com/benbjohnson/litestream"], v["modernc.org/sqlite"], v["github.com/johannesboyne/gofakes3"])
}
