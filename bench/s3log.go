package main

import (
	"bytes"
	"io"
	"strings"
	"time"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// logPath is where the scenarios have the fleet log in their bucket.
const logPath = "fleet"

// classOf says what a key, or the prefix of a listing, is of: the fleet log's "log",
// "map", "large", "member" and "settings", or a tenant's "level 0", "level 1", …, "metadata" and "prefix".
func classOf(key string) string {
	if rest, ok := strings.CutPrefix(key, logPath+"/"); ok {
		switch {
		case strings.HasPrefix(rest, format.MapDir):
			return "map"
		case strings.HasPrefix(rest, format.LargeDir):
			return "large"
		case strings.HasPrefix(rest, format.MemberDir):
			return "member"
		case strings.HasPrefix(rest, "cluster/"):
			return "settings"
		}
		return "log"
	}
	prefix, ok := prefixOf(key)
	if !ok {
		return "other"
	}
	switch rest := key[len(prefix)+1:]; {
	case rest == "metadata.json":
		return "metadata"
	case len(rest) >= 5 && rest[4] == '/':
		return "level " + strings.TrimLeft(rest[:3], "0") + rest[3:4]
	}
	return "prefix"
}

// logOrder is what arrived of a fleet log. An object counts when all before it are there.
type logOrder struct {
	next    uint64
	waiting map[uint64]*format.Log
}

// readLog decodes what is put under a key, if it is an object of a fleet log with files in
// it. It returns what is to be read instead of in.
func readLog(key string, in io.Reader) (*format.Log, io.Reader, error) {
	epoch, seq, ok := format.ParseObjectName(strings.TrimPrefix(key, logPath+"/"))
	if !ok {
		return nil, in, nil
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, nil, err
	}
	e, _, err := format.Decode(b, int64(len(b)), epoch, seq)
	if err != nil {
		return nil, nil, err
	}
	return e.Log, bytes.NewReader(b), nil // a seal is no log
}

// logLocked notes an object of the fleet log.
func (s *store) logLocked(log *format.Log, now time.Time) {
	o := s.logs[log.Epoch]
	if o == nil {
		o = &logOrder{next: 1, waiting: map[uint64]*format.Log{}}
		s.logs[log.Epoch] = o
	}
	for o.waiting[log.Seq] = log; o.waiting[o.next] != nil; o.next++ {
		log := o.waiting[o.next]
		delete(o.waiting, o.next)
		for _, r := range log.Records {
			prefix := r.Prefix
			t := s.tenants[prefix]
			if t == nil {
				t = &tenant{}
				s.tenants[prefix] = t
			}
			s.protectLocked(t, now)
			if !s.logging {
				continue
			}
			a := arrival{key: logPath + "/" + format.ObjectName(log.Epoch, log.Seq), at: now, prefix: prefix, offset: r.Offset, size: r.Size}
			if r.Large != 0 {
				a.key = logPath + "/" + format.LargeName(log.Epoch, r.Large)
			}
			s.arrived = append(s.arrived, a)
		}
	}
}
