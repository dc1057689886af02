package ledger_test

import (
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/ledger/ledgertest"
)

func TestMemory(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) ledgertest.Store { return new(ledger.Memory) })
}
