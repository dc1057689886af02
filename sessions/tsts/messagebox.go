package tsts

import (
	"context"
	"errors"
	"unicode/utf16"

	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// messageBox is RpcShowMessageBox (opnum 9) of [MS-TSTS]. The library's own stub of it
// takes the length of a text in UTF-8 for that in UTF-16, so that all but ASCII comes
// out as a request that no host can read.
type messageBox struct {
	in  session.ShowMessageBoxRequest
	out session.ShowMessageBoxResponse
}

// OpNum, OpName and the methods below are dcerpc.Operation.
func (m *messageBox) OpNum() int     { return 9 }
func (m *messageBox) OpName() string { return "/TermSrvSession/v1/RpcShowMessageBox" }

func (m *messageBox) MarshalNDRRequest(ctx context.Context, w ndr.Writer) error {
	wait := int32(0)
	if m.in.DoNotWait {
		wait = 1
	}
	return errors.Join(
		m.in.Session.MarshalNDR(ctx, w),
		writeText(w, m.in.Title),
		writeText(w, m.in.Message),
		w.WriteData(m.in.Style),
		w.WriteData(m.in.Timeout),
		w.WriteData(wait),
	)
}

// writeText writes a [string] of WCHAR: greatest length, offset, length, and as many
// characters, the last of them NUL.
func writeText(w ndr.Writer, text string) error {
	units := append(utf16.Encode([]rune(text)), 0)
	err := errors.Join(w.WriteSize(uint64(len(units))), w.WriteSize(uint64(0)), w.WriteSize(uint64(len(units))))
	for _, u := range units {
		err = errors.Join(err, w.WriteData(u))
	}
	return err
}

func (m *messageBox) UnmarshalNDRResponse(ctx context.Context, r ndr.Reader) error {
	return m.out.UnmarshalNDR(ctx, r)
}

func (m *messageBox) UnmarshalNDRRequest(context.Context, ndr.Reader) error {
	return errors.ErrUnsupported
}
func (m *messageBox) MarshalNDRResponse(context.Context, ndr.Writer) error {
	return errors.ErrUnsupported
}
