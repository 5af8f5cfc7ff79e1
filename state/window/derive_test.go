package window

import (
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

const deriveYAML = `
group: orders
version: 1
entity: {name: user, key: [user_id]}
source: {topic: orders, schema: order.avsc, time: event_time}
freshness: 10s
windows: [1d, 7d]
features:
  - {name: spend, agg: sum, of: amount}
  - {name: share, derive: "spend_1d / spend_7d"}
  - {name: big, agg: count, where: amount >= 10.0}
  - {name: many, derive: "big_7d > 1 ? 1 : 0"}
`

const deriveSchema = `{"type": "record", "name": "order", "fields": [
  {"name": "user_id", "type": "string"}, {"name": "amount", "type": "double"},
  {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}`

// TestDerive computes derived features from a definition; one that divides by zero is null, and counted.
func TestDerive(t *testing.T) {
	p, problems := feature.Parse("orders.yaml", []byte(deriveYAML), func(string) ([]byte, error) { return []byte(deriveSchema), nil })
	if problems.Errors() > 0 {
		t.Fatal(problems)
	}
	l := layoutOf(t, p)
	e, c, out := l.NewEntity(), Counters{}, make([]schemas.Value, len(p.Features))
	get := func(name string) schemas.Value {
		for i, f := range p.Features {
			if f.Name == name {
				return out[i]
			}
		}
		t.Fatalf("no feature %s", name)
		return schemas.Value{}
	}
	for i, amount := range []float64{30, 10} {
		ev := &Event{Time: (1000 + 3*int64(i)) * day, ID: uint64(i), Mask: 1 | 1<<1, Columns: []schemas.Value{schemas.DoubleValue(amount)}}
		e.Insert(l, ev, ev.Time)
	}
	if next := e.Evaluate(l, 1003*day, out, &c); next != 1004*day {
		t.Errorf("next change at %d, want %d", next, 1004*day)
	}
	if v := get("share"); !equal(v, schemas.DoubleValue(0.25)) {
		t.Errorf("share is %+v", v)
	}
	if v := get("many"); !equal(v, schemas.IntValue(1)) {
		t.Errorf("many is %+v", v)
	}
	e.Evaluate(l, 1010*day, out, &c)
	if v := get("share"); !v.IsNull() || c.DeriveErrors != 1 {
		t.Errorf("0 ÷ 0 is %+v with %d errors counted", v, c.DeriveErrors)
	}
}
