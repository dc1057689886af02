// Package testlab runs real RDP peers on one machine for tests: xrdp hosts with
// a real session limit, FreeRDP's shadow server as a host with NLA, the clients
// xfreerdp and rdesktop, and X displays that can be read by OCR.
//
// Everything it starts ends with the test, also when the test program is
// killed: an xrdp host is a pid namespace whose first process ends when its
// standard input closes, and the other programs ask the kernel for a signal
// at their parent's death. Two test programs can run side by side; addresses,
// ports and display numbers are taken from leases that the kernel keeps.
//
// The package is for tests only. It needs Linux, root, and the packages xrdp,
// xorgxrdp, tigervnc-standalone-server, openbox, xterm, x11-xserver-utils,
// xvfb, freerdp2-x11, freerdp2-shadow-x11, winpr-utils, rdesktop, imagemagick,
// tesseract-ocr, iproute2, util-linux and passwd; what a test lacks is told by
// [Require].
//
// The environment can name another xrdp than the machine's own, to run the same
// tests with it: TESTLAB_XRDP is a directory with sbin/xrdp, sbin/xrdp-sesman and
// etc/xrdp. TESTLAB_XFREERDP holds further arguments for xfreerdp.
package testlab
