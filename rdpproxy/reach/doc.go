// Package reach finds out how an RDP host answers, without logging on to it:
// whether it can be reached, which security it chooses for each kind of client,
// and whether its certificate carries the names that users type.
//
// Check collects, Findings judges, Summary prints. A check opens a few
// connections one after the other and says no user name in any of them.
package reach
