package window

// checkLimits sets the sticky bits of windowed features whose distinct values now exceed their limit. It is a function of the events and of the
// clock alone, not of where an evaluation left the windows: which rows are computed differs between a live run and its replay.
func (e *Entity) checkLimits(l *Layout, clock int64) {
	n := len(e.ev) / l.stride
	if e.big != nil {
		n = e.big.n
	}
	if int64(n) <= l.minLimit {
		return
	}
	for i := range l.limited {
		lim := &l.limited[i]
		if int64(n) <= lim.limit || e.isOver(lim.over) {
			continue
		}
		start := clock - l.windows[lim.window].length
		var distinct int64
		if e.big != nil {
			distinct = e.big.distinctAfter(l, lim, start)
		} else {
			distinct = e.distinctAfter(l, lim.lane, start)
		}
		if distinct > lim.limit {
			e.setOver(lim.over)
		}
	}
}

// distinctAfter counts the distinct values of a small entity's lane in events with a time beyond start.
func (e *Entity) distinctAfter(l *Layout, lane int, start int64) (n int64) {
	sc := l.scratch.Get().(*scratch)
	la, seen := &l.lanes[lane], &sc.seen[lane]
	seen.reset()
	for at := len(e.ev) - l.stride; at >= 0 && timeOf(e.ev[at:]) > start; at -= l.stride {
		if la.passes(e.ev[at:]) && seen.add(la, e.ev, at) {
			n++
		}
	}
	l.scratch.Put(sc)
	return n
}

// distinctAfter is the same for a large entity. Its window follows the clock here, and stands before start never; where an evaluation (a tick of
// the wall clock) has moved it beyond, the values whose last occurrence lies between are counted again.
func (b *large) distinctAfter(l *Layout, lim *limited, start int64) int64 {
	la := &l.lanes[lim.lane]
	if int64(len(b.lanes[lim.lane].seen)) <= lim.limit {
		return 0
	}
	b.advance(l, lim.window, start)
	s := &b.wins[lim.window]
	n := int64(0)
	for i, li := range l.windows[lim.window].lanes {
		if li == lim.lane {
			n = s.cells[i].distinct
		}
	}
	if start == s.start {
		return n
	}
	for p := b.seek(l, start); p.chunk < len(b.chunks); p = b.startOf(p.chunk + 1) {
		for c := b.chunks[p.chunk]; p.at < len(c.ev); p.at += l.stride {
			ev := c.ev[p.at : p.at+l.stride]
			if timeOf(ev) > s.start {
				return n
			}
			if la.passes(ev) && b.isLast(la, lim.lane, ev) {
				n++
			}
		}
	}
	return n
}
