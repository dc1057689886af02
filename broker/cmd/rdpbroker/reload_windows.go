package main

import "os"

// notifyReload: Windows has no signal for it.
func notifyReload(chan<- os.Signal) {}
