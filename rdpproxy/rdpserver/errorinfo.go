package rdpserver

import (
	"encoding/binary"
	"fmt"
)

// ErrorCode tells a client why it is disconnected, [MS-RDPBCGR] 2.2.5.1.1.
// Clients show a text of their own for each; the comments quote the
// specification.
type ErrorCode uint32

// The codes that a terminal server or a connection broker has a use for.
const (
	ErrorDisconnectedByAdmin   ErrorCode = 0x01  // by an administrative tool on the server in another session
	ErrorLoggedOffByAdmin      ErrorCode = 0x02  // forced logoff by an administrative tool on the server in another session
	ErrorIdleTimeout           ErrorCode = 0x03  // the idle session limit timer on the server has elapsed
	ErrorLogonTimeout          ErrorCode = 0x04  // the active session limit timer on the server has elapsed
	ErrorOtherConnection       ErrorCode = 0x05  // another user connected to the server
	ErrorOutOfMemory           ErrorCode = 0x06  // the server ran out of available memory resources
	ErrorDenied                ErrorCode = 0x07  // the server denied the connection
	ErrorNoPrivileges          ErrorCode = 0x09  // the user cannot connect due to insufficient access privileges
	ErrorFreshCredentials      ErrorCode = 0x0a  // the server does not accept saved user credentials
	ErrorDisconnectedByUser    ErrorCode = 0x0b  // by an administrative tool running in the user's session
	ErrorLoggedOffByUser       ErrorCode = 0x0c  // by the user logging off his or her session
	ErrorShutdown              ErrorCode = 0x19  // the remote server is busy shutting down
	ErrorReboot                ErrorCode = 0x1a  // the remote server is busy rebooting
	ErrorDestinationNotFound   ErrorCode = 0x400 // the target endpoint could not be found
	ErrorDestinationLeaving    ErrorCode = 0x402 // the target endpoint is disconnecting from the Connection Broker
	ErrorRedirecting           ErrorCode = 0x404 // an error while being redirected to the target endpoint
	ErrorWaking                ErrorCode = 0x405 // an error while the virtual machine was being awakened
	ErrorStarting              ErrorCode = 0x406 // an error while the virtual machine was being started
	ErrorNoAddress             ErrorCode = 0x407 // the IP address of the target endpoint cannot be determined
	ErrorPoolNotFree           ErrorCode = 0x408 // there are no available endpoints in the pool
	ErrorCancelled             ErrorCode = 0x409 // processing of the connection has been canceled
	ErrorInvalidToken          ErrorCode = 0x410 // the settings in the routing token cannot be validated
	ErrorStartTimeout          ErrorCode = 0x411 // a time-out while the virtual machine was being started
	ErrorSessionMonitorFailure ErrorCode = 0x412 // a session monitoring error while the virtual machine was being started
)

func (e ErrorCode) String() string { return fmt.Sprintf("error info %#x", uint32(e)) }

// StatusCode tells a waiting client what goes on, [MS-RDPBCGR] 2.2.5.2.
type StatusCode uint32

// The status codes.
const (
	StatusFindingDestination StatusCode = 0x401
	StatusLoadingDestination StatusCode = 0x402
	StatusBringingOnline     StatusCode = 0x403
	StatusRedirecting        StatusCode = 0x404
	StatusLoadingVM          StatusCode = 0x501
	StatusWakingVM           StatusCode = 0x502
	StatusStartingVM         StatusCode = 0x503
	StatusMonitoringVM       StatusCode = 0x504
	StatusRetryingVM         StatusCode = 0x505
)

func (s StatusCode) String() string { return fmt.Sprintf("status %#x", uint32(s)) }

// ErrorInfo tells the client why it must go, if it can be told, and disconnects
// it. The client has Config.LeaveTimeout to leave; Close waits for it, and Run
// returns when it has. Nothing can be drawn or sent afterwards: a second call
// does nothing.
func (c *Conn) ErrorInfo(code ErrorCode) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.leaving.Load() {
		return nil
	}
	var packets []byte
	if c.client.EarlyCapabilities&earlyErrorInfo != 0 {
		packets = errorInfoPacket(code)
	}
	packets = append(packets, disconnectPacket()...)
	if err := c.sendParting(packets); err != nil {
		return fmt.Errorf("telling the client %v: %w", code, err)
	}
	return nil
}

// Status tells a client that waits what for. Clients that would not show it are
// left alone.
func (c *Conn) Status(code StatusCode) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.leaving.Load() || c.client.EarlyCapabilities&earlyStatusInfo == 0 {
		return nil
	}
	if err := c.licenseLocked(); err != nil {
		return err
	}
	if err := c.writeLocked(statusInfoPacket(code)); err != nil {
		return fmt.Errorf("telling the client %v: %w", code, err)
	}
	return nil
}

func errorInfoPacket(code ErrorCode) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(code))
	return dataIndication(shareData(dataErrorInfo, streamLow, 0, body))
}

func statusInfoPacket(code StatusCode) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(code))
	return dataIndication(shareData(dataStatusInfo, streamLow, 0, body))
}
