package daemon

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackAfterACrowdAndOnlyThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int32
		l := newLull()
		l.release = func() { count.Add(1) }
		come := func(n int) {
			for range n {
				l.stir()
			}
		}
		come(crowd - 1)
		time.Sleep(time.Hour)
		if given := count.Load(); given != 0 {
			t.Error("for a few connections")
		}
		come(2)
		for range 100 { // they keep coming
			time.Sleep(quiet * 9 / 10)
			come(1)
		}
		if given := count.Load(); given != 0 {
			t.Error("while there was a crowd")
		}
		time.Sleep(3 * quiet)
		if given := count.Load(); given != 1 {
			t.Errorf("%d times when it was over", given)
		}
		time.Sleep(time.Hour)
		come(crowd - 1)
		time.Sleep(time.Hour)
		if given := count.Load(); given != 1 {
			t.Errorf("%d times without another crowd", given)
		}
		come(1)
		time.Sleep(3 * quiet)
		if given := count.Load(); given != 2 {
			t.Errorf("%d times after the next one", given)
		}
	})
}
