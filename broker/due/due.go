// Package due keeps values by the time at which something is to be done about them.
package due

import (
	"container/heap"
	"time"
)

// Queue gives out values in the order of their times. The zero value is an empty one.
// It is not safe for concurrent use.
type Queue[T any] struct{ items items[T] }

// Add puts v in. It reports whether v is now the first one.
func (q *Queue[T]) Add(at time.Time, v T) (first bool) {
	first = len(q.items) == 0 || at.Before(q.items[0].at)
	heap.Push(&q.items, item[T]{at, v})
	return first
}

// First is the time of the first value; ok is false if there is none.
func (q *Queue[T]) First() (at time.Time, ok bool) {
	if len(q.items) == 0 {
		return time.Time{}, false
	}
	return q.items[0].at, true
}

// Next takes out the first value whose time has come by now; ok is false if there is none.
func (q *Queue[T]) Next(now time.Time) (v T, ok bool) {
	if len(q.items) == 0 || now.Before(q.items[0].at) {
		return v, false
	}
	return heap.Pop(&q.items).(item[T]).value, true
}

type item[T any] struct {
	at    time.Time
	value T
}

// items implement heap.Interface.
type items[T any] []item[T]

func (s items[T]) Len() int           { return len(s) }
func (s items[T]) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s items[T]) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *items[T]) Push(x any)        { *s = append(*s, x.(item[T])) }
func (s *items[T]) Pop() any {
	old := *s
	last := len(old) - 1
	x := old[last]
	old[last] = item[T]{} // nothing is kept that has been given out
	*s = old[:last]
	return x
}
