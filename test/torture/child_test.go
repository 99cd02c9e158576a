package torture

import "fmt"

func runChild(job string) error { return fmt.Errorf("unknown job %q", job) }
