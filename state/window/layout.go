package window

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// maxTime is the first event time, in ms since the epoch, that does not fit (year 2527); admission refuses all after 2199.
const maxTime = 1 << (64 - timeShift)

// timeShift is the number of low bits of an event's first word that are left for flags.
const timeShift = 20

// Never is the next change of values that no passing of time changes.
const Never int64 = math.MaxInt64

// Layout is a plan compiled for this package. It is read-only and shared by goroutines.
type Layout struct {
	plan     *feature.Plan
	stride   int // words of an event
	columns  []column
	flags    int  // flags of an event: one per column (not null), then one per filter (true)
	hashedID bool // identities are hashes, not offsets

	horizon  int64
	lanes    []lane     // what windowed features aggregate, each once
	windows  []windowOf // ascending
	derived  []int      // features to derive, in order
	limited  []limited  // windowed features with a limit, in order of their sticky bits
	minLimit int64      // the smallest of their limits
	life     lifeLayout
	over     int // number of sticky bits

	scratch sync.Pool // *scratch
}

// column says how a stored column lies in an event: in one word, or two for decimals. Texts and bytes are references to the entity's dictionary.
type column struct {
	kind schemas.Kind
	word int
	text bool
	flag flag
}

// flag is a place in an event; the zero flag is always set.
type flag struct {
	word int
	mask uint64
}

func (f flag) in(ev []uint64) bool { return ev[f.word]&f.mask == f.mask }

type need uint8

const (
	needSum need = 1 << iota
	needSquares
	needMin
	needMax
	needDistinct
	needFirst // value or time of the first
	needLast
)

// lane is a column under a filter: the events that pass it are aggregated together.
type lane struct {
	col, filter int
	column      // of col; kind is Null where col is −1
	scale       int
	pass        flag // the filter
	needs       need
	last        int // the widest window that reads it
}

// passes reports whether an event is in the lane: its filter holds and its column is not null.
func (la *lane) passes(ev []uint64) bool {
	return la.flag.in(ev) && (la.pass.mask == 0 || la.pass.in(ev))
}

// windowOf are the features of one window length.
type windowOf struct {
	length   int64
	features []featureOf
	lanes    []int   // that its features read
	filters  []int   // distinct filters of its features (−1: none): their departures are changes
	firsts   []probe // what a large entity keeps the first event of: those filters, and lanes that ask for it
	firstOf  []int   // per lane of lanes: its place in firsts, −1 for none
}

// probe is a lane whose first event in a window matters: where departs is set because the event's departure is a change.
type probe struct {
	lane
	departs bool
}

// featureOf is a windowed or lifetime feature.
type featureOf struct {
	out  int
	agg  feature.Agg
	lane int // into Layout.lanes; of a lifetime feature into lifeLayout.lanes
	same int // the same feature over the window before, −1: where no event lies between them it has the same value
	unit int64
	over int // sticky bit, −1: none
	kind schemas.Kind
}

type limited struct {
	window, lane int
	limit        int64
	over         int
}

// NewLayout compiles a plan. It fails for what this package cannot hold: more than 63 filters, or an aggregation of a column of a kind it is not for.
func NewLayout(p *feature.Plan) (*Layout, error) {
	l := &Layout{plan: p, horizon: p.Horizon, hashedID: p.Source.IDColumn >= 0, minLimit: math.MaxInt64}
	if len(p.Filters) > 63 {
		return nil, fmt.Errorf("group %s has %d filters: at most 63 features may have different `where`", p.Group, len(p.Filters))
	}
	l.layColumns()
	for i := range p.Features {
		f := &p.Features[i]
		if f.Agg == feature.Derived {
			if f.Derive != nil {
				l.derived = append(l.derived, i)
			}
			continue
		}
		if err := checkFeature(p, f); err != nil {
			return nil, fmt.Errorf("feature %s: %w", f.Name, err)
		}
		if f.Window != feature.Lifetime && !slices.ContainsFunc(l.windows, func(w windowOf) bool { return w.length == f.Window }) {
			l.windows = append(l.windows, windowOf{length: f.Window})
		}
	}
	slices.SortFunc(l.windows, func(a, b windowOf) int { return cmp.Compare(a.length, b.length) })
	for wi := range l.windows {
		l.layWindow(wi)
	}
	l.layLifetime()
	l.scratch.New = func() any { return newScratch(l) }
	return l, nil
}

func (l *Layout) layColumns() {
	p := l.plan
	l.flags = len(p.Stored) + len(p.Filters)
	l.stride = 2
	if l.flags > timeShift {
		l.stride += (l.flags + 63) / 64
	}
	for i, c := range p.Stored {
		col := column{kind: p.Columns[c].Type.Kind, word: l.stride, flag: l.flagOf(i)}
		switch col.kind {
		case schemas.String, schemas.Bytes, schemas.UUID, schemas.Floats:
			col.text = true
		}
		l.stride++
		if col.kind == schemas.Decimal {
			l.stride++
		}
		l.columns = append(l.columns, col)
	}
}

// flagOf returns the place of flag i: below the time where all fit there, else in words of their own.
func (l *Layout) flagOf(i int) flag {
	if l.flags <= timeShift {
		return flag{0, 1 << i}
	}
	return flag{2 + i/64, 1 << (i % 64)}
}

func (l *Layout) filterFlag(filter int) flag {
	if filter < 0 {
		return flag{}
	}
	return l.flagOf(len(l.plan.Stored) + filter)
}

func checkFeature(p *feature.Plan, f *feature.Feature) error {
	if f.Column >= len(p.Stored) || f.Column < -1 || f.Filter >= len(p.Filters) || f.Filter < -1 {
		return fmt.Errorf("column %d or filter %d does not exist", f.Column, f.Filter)
	}
	if f.Window < 0 || f.Window > p.Horizon {
		return fmt.Errorf("window of %d ms is negative or beyond the horizon of %d ms", f.Window, p.Horizon)
	}
	kind := schemas.Null
	if f.Column >= 0 {
		kind = p.Columns[p.Stored[f.Column]].Type.Kind
	}
	numeric := kind == schemas.Int || kind == schemas.Double || kind == schemas.Decimal
	ok := true
	switch f.Agg {
	case feature.Count, feature.FirstTime, feature.LastTime:
	case feature.TimeSinceFirst, feature.TimeSinceLast:
		if f.Unit <= 0 {
			return fmt.Errorf("unit of %d ms is not positive", f.Unit)
		}
	case feature.Sum, feature.Avg, feature.Variance, feature.VariancePop, feature.Stddev, feature.StddevPop:
		ok = numeric
	case feature.Min, feature.Max:
		ok = numeric || kind == schemas.Time
	case feature.CountDistinct, feature.First, feature.Last:
		ok = kind != schemas.Null && kind < schemas.List
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("aggregation %d is not for a column of kind %d", f.Agg, kind)
	}
	return nil
}

func (l *Layout) layWindow(wi int) {
	w := &l.windows[wi]
	for i := range l.plan.Features {
		f := &l.plan.Features[i]
		if f.Agg == feature.Derived || f.Window != w.length {
			continue
		}
		li := l.laneOf(f)
		l.lanes[li].last = wi
		fo := featureOf{out: i, agg: f.Agg, lane: li, same: -1, unit: f.Unit, over: -1, kind: l.lanes[li].kind}
		if wi > 0 {
			for _, b := range l.windows[wi-1].features {
				if b.agg == fo.agg && b.lane == li && b.unit == fo.unit && b.over < 0 {
					fo.same = b.out
				}
			}
		}
		if f.Agg == feature.CountDistinct && f.MaxDistinct > 0 {
			fo.over = l.over
			l.over++
			l.limited = append(l.limited, limited{wi, li, f.MaxDistinct, fo.over})
			l.minLimit = min(l.minLimit, f.MaxDistinct)
		}
		w.features = append(w.features, fo)
		if !slices.Contains(w.lanes, li) {
			w.lanes = append(w.lanes, li)
		}
		if !slices.Contains(w.filters, f.Filter) {
			w.filters = append(w.filters, f.Filter)
			w.firsts = append(w.firsts, probe{l.newLane(&feature.Feature{Column: -1, Filter: f.Filter}), true})
		}
	}
	for _, li := range w.lanes {
		at := -1
		if la := l.lanes[li]; la.needs&needFirst != 0 {
			at = slices.IndexFunc(w.firsts, func(p probe) bool { return p.col == la.col && p.filter == la.filter })
			if at < 0 {
				at = len(w.firsts)
				w.firsts = append(w.firsts, probe{la, false})
			}
		}
		w.firstOf = append(w.firstOf, at)
	}
}

// laneOf returns the lane of a feature, made if there is none, that serves its aggregation.
func (l *Layout) laneOf(f *feature.Feature) int {
	needs := needsOf(f.Agg)
	i := slices.IndexFunc(l.lanes, func(la lane) bool { return la.col == f.Column && la.filter == f.Filter })
	if i < 0 {
		i = len(l.lanes)
		l.lanes = append(l.lanes, l.newLane(f))
	}
	l.lanes[i].needs |= needs
	return i
}

func (l *Layout) newLane(f *feature.Feature) lane {
	la := lane{col: f.Column, filter: f.Filter, pass: l.filterFlag(f.Filter)}
	if f.Column >= 0 {
		la.column = l.columns[f.Column]
		la.scale = l.plan.Columns[l.plan.Stored[f.Column]].Type.Scale
		if la.kind != schemas.Decimal {
			la.scale = 0
		}
	}
	if la.pass.word == la.flag.word { // one test for both
		la.flag.mask |= la.pass.mask
		la.pass.mask = 0
	}
	return la
}

func needsOf(a feature.Agg) need {
	switch a {
	case feature.Sum, feature.Avg:
		return needSum
	case feature.Variance, feature.VariancePop, feature.Stddev, feature.StddevPop:
		return needSum | needSquares
	case feature.Min:
		return needMin
	case feature.Max:
		return needMax
	case feature.CountDistinct:
		return needDistinct
	case feature.First, feature.FirstTime, feature.TimeSinceFirst:
		return needFirst
	case feature.Last, feature.LastTime, feature.TimeSinceLast:
		return needLast
	}
	return 0
}
