package feature_test

import (
	"fmt"
	"os"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

func ExampleLoad() {
	plans, problems, err := feature.Load([]string{"../catalog"})
	if err != nil || problems.Errors() > 0 {
		fmt.Println(err, problems)
		return
	}
	for _, p := range plans {
		fmt.Println(p.Group, "version", p.Version, "has", len(p.Features), "features, the first is", p.Features[0].Name)
	}
	// Output:
	// user_purchases version 1 has 30 features, the first is purchase_count_1d
	// user_sessions version 1 has 27 features, the first is total_sessions_1d
}

func ExampleParse() {
	const definition = `group: buys
version: 1
entity: {name: user, key: [user_id]}
source: {topic: purchases, schema: purchase.avsc, time: event_time, id: event_id}
features:
  - {name: spend, agg: sum, of: amuont, window: 7d}
`
	_, problems := feature.Parse("buys.yaml", []byte(definition), func(name string) ([]byte, error) { return os.ReadFile("../catalog/" + name) })
	for _, p := range problems {
		if p.Severity == feature.Error {
			fmt.Println(p)
		}
	}
	// Output:
	// buys.yaml:6:33: freshet.Purchase has no field "amuont"; did you mean "amount"
}

func ExampleProgram() {
	plans, _, err := feature.Load([]string{"../catalog/user_purchases.yaml"})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := plans[0]
	row := make([]schemas.Value, len(p.Columns))
	for i, c := range p.Columns {
		if c.Path == "status" {
			row[i] = schemas.StringValue([]byte("completed"))
		}
	}
	fmt.Println(p.Where.Source())
	fmt.Println(p.Where.Bool(row))
	fmt.Println(p.Where.Bool(make([]schemas.Value, len(p.Columns)))) // null
	// Output:
	// status != "cancelled"
	// true false
	// false true
}
