// A wrong clock for a program in Go, which asks the kernel for the time of day without any library: this goes into Go's own package time (go build
// -overlay), whose Now adds it. For rehearsals only.
package time

import "syscall"

// clockShift is CLOCK_SHIFT, in seconds.
var clockShift = func() int64 {
	text, _ := syscall.Getenv("CLOCK_SHIFT")
	shift, _ := atoi(text)
	return int64(shift)
}()
