package life

import (
	"fmt"
	"slices"
	"testing"
)

func TestALifeOnlyGoesForward(t *testing.T) {
	type step struct {
		do   string // start, ok, failed, close, closed
		want string
	}
	for name, steps := range map[string][]step{
		"used and closed":          {{"start", "true"}, {"ok", ""}, {"close", "go on"}, {"closed", ""}, {"close", "over"}, {"start", "false"}},
		"closed again and again":   {{"start", "true"}, {"ok", ""}, {"close", "go on"}, {"close", "go on"}, {"closed", ""}, {"close", "over"}},
		"closed before it began":   {{"close", "over"}, {"start", "false"}, {"close", "over"}},
		"started twice":            {{"start", "true"}, {"start", "false"}, {"ok", ""}, {"start", "false"}},
		"failed":                   {{"start", "true"}, {"failed", ""}, {"start", "false"}, {"close", "over"}},
		"closed while it begins":   {{"start", "true"}, {"close", "wait"}, {"ok", ""}, {"close", "go on"}, {"closed", ""}},
		"closed while it failed":   {{"start", "true"}, {"close", "wait"}, {"failed", ""}, {"close", "over"}},
		"started while it closes":  {{"start", "true"}, {"ok", ""}, {"close", "go on"}, {"start", "false"}},
		"waited for twice":         {{"start", "true"}, {"close", "wait"}, {"close", "wait"}, {"failed", ""}, {"close", "over"}},
		"started after it was not": {{"start", "true"}, {"failed", ""}, {"close", "over"}, {"start", "false"}},
	} {
		t.Run(name, func(t *testing.T) {
			var l Life
			last, aborted := l.phase, 0
			for i, s := range steps {
				got := ""
				switch s.do {
				case "start":
					got = fmt.Sprint(l.Start(func() { aborted++ }))
				case "ok", "failed":
					began := l.startEnded
					l.Started(s.do == "ok")
					<-began
				case "close":
					switch wait, goOn := l.Close(); {
					case goOn:
						got = "go on"
					case wait != nil:
						got = "wait"
					default:
						got = "over"
					}
				case "closed":
					l.Closed()
				}
				if got != s.want || l.phase < last {
					t.Fatalf("step %d, %s: %q, phase %d after %d", i, s.do, got, l.phase, last)
				}
				last = l.phase
				if err := l.Serving(); (err == nil) != (l.phase == serving) {
					t.Fatalf("step %d: serving says %v in phase %d", i, err, l.phase)
				}
			}
			if waits := slices.Contains(steps, step{"close", "wait"}); waits != (aborted > 0) {
				t.Errorf("Start was ended %d times", aborted)
			}
		})
	}
}
