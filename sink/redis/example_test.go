package redis_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
)

// A ranking service reads the features of its candidates in one round trip.
func ExampleReader_GetFeatureVectors() {
	server := publish() // freshet writes; here into an embedded server
	defer server.Close()

	cfg := redis.Default()
	cfg.Addr = server.Addr()
	client, err := redis.Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	reader := client.ReaderOf("user_purchases", 1, "total_spend_7d", "avg_order_value_7d")

	now := time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC)
	vectors, err := reader.GetFeatureVectors(context.Background(), [][]byte{[]byte("alice"), []byte("bob"), []byte("carol")}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range vectors {
		spend, _ := v.Float64("total_spend_7d")
		average, ok := v.Float64("avg_order_value_7d")
		switch {
		case !v.Known:
			fmt.Printf("%s: unknown\n", v.Entity)
		case !ok:
			fmt.Printf("%s: spend %.2f, no average, %s old\n", v.Entity, spend, v.Age(now))
		default:
			fmt.Printf("%s: spend %.2f, average %.2f, %s old, expired: %v\n", v.Entity, spend, average, v.Age(now), v.Expired(now))
		}
	}
	// Output:
	// alice: spend 120.50, average 60.25, 5s old, expired: false
	// bob: spend 0.00, no average, 5s old
	// carol: unknown
}

func publish() *miniredis.Miniredis {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	cfg := redis.Default()
	cfg.Addr = server.Addr()
	client, err := redis.Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	writer := client.Writer(sink.Spec{Group: "user_purchases", Version: 1, Features: []sink.Field{
		{Name: "total_spend_7d", Type: schemas.Type{Kind: schemas.Decimal, Scale: 2}},
		{Name: "avg_order_value_7d", Type: schemas.Type{Kind: schemas.Double}},
	}}, 0)
	version := sink.Version{Generation: 1, Offset: 41, AsOf: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}
	rows := []sink.Row{
		{Entity: []byte("alice"), Version: version, ValidUntil: version.AsOf + 86_400_000, Values: []schemas.Value{schemas.DecimalValue(0, 12050), schemas.DoubleValue(60.25)}},
		{Entity: []byte("bob"), Version: version, ValidUntil: sink.Never, Values: []schemas.Value{schemas.DecimalValue(0, 0), {}}},
	}
	if err := writer.Write(context.Background(), rows, make([]redis.Outcome, len(rows))); err != nil {
		log.Fatal(err)
	}
	return server
}
