// Package e2e holds the tests of the whole broker against real peers: xrdp hosts
// with a real session limit, FreeRDP, rdesktop, nmap. It has no code of its own.
package e2e
