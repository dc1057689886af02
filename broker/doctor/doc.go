// Package doctor examines the hosts of a farm the way the broker will use them,
// and says in plain words what is wrong and what to do about it: whether names
// resolve, what RDP answers, whether the management channel can be reached,
// trusted and logged on to, whether the account sees what it must see, and which
// settings of the host will work against a broker.
//
// It changes no setting and no session on any host, and a wrong password is
// offered once: hosts that share an account wait until the first of them has let
// it in, so that it costs one failed logon and not one per host.
package doctor
