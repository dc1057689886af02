// Package admintest holds what the tests of the admin rooms share: a farm in which
// most things happen at once, and a broker made of functions.
package admintest
