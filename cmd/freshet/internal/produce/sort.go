package produce

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// item is one encoded event.
type item struct {
	time       int64 // ms
	row        int64 // orders equal times
	key, value []byte
}

// itemBytes is the memory an item takes beside its key and value.
const itemBytes = 96

func compare(a, b item) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.row, b.row)) }

// maxRuns is how many sorted files are merged at once, with 64 KiB of buffer each.
const maxRuns = 64

// sorter sorts items by time in bounded memory: what does not fit goes to sorted files, which are merged (Knuth, TAOCP 3, 5.4).
type sorter struct {
	limit int    // bytes in memory
	dir   string // for the files

	items []item
	bytes int
	count int64
	runs  []*os.File
}

func (s *sorter) add(it item) error {
	s.items = append(s.items, it)
	s.bytes += itemBytes + len(it.key) + len(it.value)
	s.count++
	if s.bytes < s.limit {
		return nil
	}
	slices.SortFunc(s.items, compare)
	items := s.items
	err := s.spill(func(take func(item) error) error {
		for _, it := range items {
			if err := take(it); err != nil {
				return err
			}
		}
		return nil
	})
	clear(s.items)
	s.items, s.bytes = s.items[:0], 0
	if err == nil && len(s.runs) == maxRuns {
		err = s.mergeRuns()
	}
	return err
}

// mergeRuns makes one file of all.
func (s *sorter) mergeRuns() error {
	runs := s.runs
	s.runs = nil
	err := s.spill(func(take func(item) error) error { return merge(runs, nil, take) })
	return errors.Join(err, remove(runs))
}

// spill writes what each yields to a new file.
func (s *sorter) spill(each func(take func(item) error) error) error {
	f, err := os.CreateTemp(s.dir, "freshet-sort-*")
	if err != nil {
		return fmt.Errorf("sort in files: %w", err)
	}
	s.runs = append(s.runs, f)
	w := bufio.NewWriterSize(f, 256<<10)
	var head []byte
	err = each(func(it item) error {
		head = binary.AppendVarint(head[:0], it.time)
		head = binary.AppendVarint(head, it.row)
		head = binary.AppendUvarint(head, uint64(len(it.key)))
		head = binary.AppendUvarint(head, uint64(len(it.value)))
		_, err := w.Write(head)
		for _, b := range [][]byte{it.key, it.value} {
			if err == nil {
				_, err = w.Write(b)
			}
		}
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("sort in files: %w; make room, or set another directory with TMPDIR", err)
	}
	return nil
}

// each yields all items in order. Nothing may be added afterwards.
func (s *sorter) each(take func(item) error) error {
	slices.SortFunc(s.items, compare)
	return merge(s.runs, s.items, take)
}

func (s *sorter) close() { _ = remove(s.runs) } // temporary files; the system removes what is left

func remove(files []*os.File) error {
	var err error
	for _, f := range files {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return err
}

// source is one sorted sequence in a merge; item is its next.
type source struct {
	item item
	more []item        // in memory
	file *bufio.Reader // or here
}

// advance moves to the next item; io.EOF at the end.
func (s *source) advance() error {
	if s.file == nil {
		if len(s.more) == 0 {
			return io.EOF
		}
		s.item, s.more = s.more[0], s.more[1:]
		return nil
	}
	t, err := binary.ReadVarint(s.file)
	if err != nil {
		return err // io.EOF only where an item would begin
	}
	s.item.time = t
	var n [3]int64
	for i := range n {
		if i == 0 {
			n[i], err = binary.ReadVarint(s.file)
		} else {
			var u uint64
			u, err = binary.ReadUvarint(s.file)
			n[i] = int64(u)
		}
		if err != nil {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
	}
	both := make([]byte, n[1]+n[2])
	if _, err := io.ReadFull(s.file, both); err != nil {
		return fmt.Errorf("cut short: %v", err)
	}
	s.item.row, s.item.key, s.item.value = n[0], both[:n[1]:n[1]], both[n[1]:]
	return nil
}

type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Less(i, j int) bool { return compare(s[i].item, s[j].item) < 0 }
func (s sources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sources) Push(x any)        { *s = append(*s, x.(*source)) }
func (s *sources) Pop() any {
	old := *s
	x := old[len(old)-1]
	*s = old[:len(old)-1]
	return x
}

// merge yields the items of sorted files and of a sorted slice in order.
func merge(files []*os.File, items []item, take func(item) error) error {
	var open sources
	all := []*source{{more: items}}
	for _, f := range files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read sorted file: %w", err)
		}
		all = append(all, &source{file: bufio.NewReaderSize(f, 64<<10)})
	}
	for _, s := range all {
		if err := s.advance(); err == nil {
			open = append(open, s)
		} else if err != io.EOF {
			return fmt.Errorf("read sorted file: %w", err)
		}
	}
	heap.Init(&open)
	for len(open) > 0 {
		s := open[0]
		if err := take(s.item); err != nil {
			return err
		}
		switch err := s.advance(); err {
		case nil:
			heap.Fix(&open, 0)
		case io.EOF:
			heap.Pop(&open)
		default:
			return fmt.Errorf("read sorted file: %w", err)
		}
	}
	return nil
}
