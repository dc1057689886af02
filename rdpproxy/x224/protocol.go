package x224

import (
	"fmt"
	"strings"
)

// Protocol is a set of security protocols, requestedProtocols of
// [MS-RDPBCGR] 2.2.1.1.1, or the one selected, 2.2.1.2.1.
type Protocol uint32

// The security protocols. ProtocolRDP is the empty set: standard RDP security.
// A set is taken as it comes: ProtocolHybrid without ProtocolSSL is what mstsc
// /restrictedAdmin asks for.
const (
	ProtocolRDP      Protocol = 0
	ProtocolSSL      Protocol = 1
	ProtocolHybrid   Protocol = 2  // CredSSP
	ProtocolRDSTLS   Protocol = 4  // redirected credentials
	ProtocolHybridEx Protocol = 8  // CredSSP and an Early User Authorization Result
	ProtocolRDSAAD   Protocol = 16 // Microsoft Entra
)

// String is the names in the specification joined by "+": "SSL+HYBRID".
func (p Protocol) String() string {
	if p == ProtocolRDP {
		return "RDP"
	}
	var names []string
	for i, name := range [...]string{"SSL", "HYBRID", "RDSTLS", "HYBRID_EX", "RDSAAD"} {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if rest := p &^ 0x1f; rest != 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(rest)))
	}
	return strings.Join(names, "+")
}

// Flags of a Negotiation, [MS-RDPBCGR] 2.2.1.1.1.
const (
	FlagRestrictedAdmin uint8 = 0x01 // RESTRICTED_ADMIN_MODE_REQUIRED
	FlagRedirectedAuth  uint8 = 0x02 // REDIRECTED_AUTHENTICATION_MODE_REQUIRED (Remote Credential Guard)
	FlagCorrelation     uint8 = 0x08 // CORRELATION_INFO_PRESENT
)

// Flags of a Confirm that is no failure, [MS-RDPBCGR] 2.2.1.2.1. Windows sends
// all of them always: they are no statement of policy.
const (
	FlagExtendedClientData       uint8 = 0x01 // EXTENDED_CLIENT_DATA_SUPPORTED
	FlagGraphicsPipeline         uint8 = 0x02 // DYNVC_GFX_PROTOCOL_SUPPORTED
	FlagRestrictedAdminSupported uint8 = 0x08 // RESTRICTED_ADMIN_MODE_SUPPORTED
	FlagRedirectedAuthSupported  uint8 = 0x10 // REDIRECTED_AUTHENTICATION_MODE_SUPPORTED
)

// Failure codes of a Confirm, [MS-RDPBCGR] 2.2.1.2.2.
const (
	FailureSSLRequired      uint32 = 1 // SSL_REQUIRED_BY_SERVER
	FailureSSLNotAllowed    uint32 = 2 // SSL_NOT_ALLOWED_BY_SERVER
	FailureSSLNoCertificate uint32 = 3 // SSL_CERT_NOT_ON_SERVER
	FailureBadFlags         uint32 = 4 // INCONSISTENT_FLAGS
	FailureHybridRequired   uint32 = 5 // HYBRID_REQUIRED_BY_SERVER
	FailureSSLUserAuth      uint32 = 6 // SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER
)
