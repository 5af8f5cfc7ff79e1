//go:build unix

package parquet

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/test/e2e/servers"
)

// asEngine returns a value as the script prints it.
func asEngine(v schemas.Value, typ schemas.Type) any {
	switch v.Kind {
	case schemas.Null:
		return nil
	case schemas.Bool:
		return v.Bits == 1
	case schemas.Int:
		return json.Number(fmt.Sprint(v.Int64()))
	case schemas.Double:
		return v.Float64()
	case schemas.Decimal:
		return decimalText(v, typ.Scale)
	case schemas.Time:
		return json.Number(fmt.Sprint(v.Int64() * 1000))
	case schemas.String:
		return string(v.Bytes)
	case schemas.Floats:
		var list []any
		for i := 0; i < len(v.Bytes); i += 4 {
			list = append(list, float64(math.Float32frombits(binary.LittleEndian.Uint32(v.Bytes[i:]))))
		}
		return list
	default:
		return hex.EncodeToString(v.Bytes)
	}
}

func TestEnginesReadTheLog(t *testing.T) {
	name := servers.Python(t, servers.Packages...)
	spec := everySpec()
	rows := everyRows(rand.New(rand.NewPCG(5, 5)), spec, 300)
	for i := range rows { // decimals within DECIMAL(38), which the engines hold us to
		if v := &rows[i].Values[3]; v.Kind == schemas.Decimal {
			*v = schemas.DecimalValue(v.Hi>>8, v.Bits)
		}
	}
	dir := t.TempDir()
	seg := createSegment(t, sink.OS, filepath.Join(dir, "segment"), spec, rows)
	defer seg.Close()
	part, err := WritePart(sink.OS, filepath.Join(dir, "part"), seg, spec, PartInfo{Partition: 3, Seq: 1, OffsetEnd: 300})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	bucket := sink.NewDir(sink.OS, filepath.Join(dir, "store"))
	for _, committed := range []string{part.Name, strings.Replace(part.Name, "0000000001", "0000000002", 1)} {
		if err := bucket.PutFile(ctx, StagedName(committed), filepath.Join(dir, "part")); err != nil {
			t.Fatal(err)
		}
	}
	if err := bucket.Publish(ctx, StagedName(part.Name), part.Name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, filepath.Join("testdata", "engines.py"), filepath.Join(dir, "store", "log", "shoppers", "v2", "**", "*.parquet"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	compareEngines(t, out, spec, sorted(rows))
}

func compareEngines(t *testing.T, out []byte, spec sink.Spec, rows []sink.Row) {
	var got struct {
		Files         int
		Names         []string
		Types, Schema map[string]string
		DuckDB, Arrow [][]any
		Bloom, Found  int
		Sorting       [][]any
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Files != 1 {
		t.Errorf("a glob sees %d files, want the published one", got.Files)
	}
	want := "user_id event_timestamp computed_at available_at valid_until generation source_offset definition_hash cause " +
		"vip purchases avg_value spend category digest session last_at embedding date"
	if strings.Join(got.Names, " ") != want {
		t.Errorf("columns %v", got.Names)
	}
	for column, typ := range map[string]string{"available_at": "TIMESTAMP WITH TIME ZONE", "last_at": "TIMESTAMP WITH TIME ZONE",
		"spend": "DECIMAL(38,2)", "session": "UUID", "embedding": "FLOAT[]", "user_id": "VARCHAR", "digest": "BLOB", "vip": "BOOLEAN"} {
		if got.Types[column] != typ {
			t.Errorf("DuckDB reads %s as %s, want %s", column, got.Types[column], typ)
		}
	}
	for column, typ := range map[string]string{"available_at": "timestamp[us, tz=UTC]", "last_at": "timestamp[us, tz=UTC]",
		"spend": "decimal128(38, 2)", "embedding": "list<element: float not null>", "digest": "binary"} {
		if got.Schema[column] != typ {
			t.Errorf("pyarrow reads %s as %s, want %s", column, got.Schema[column], typ)
		}
	}
	if got.Bloom != 1 || got.Found == 0 {
		t.Errorf("%d row groups with a bloom filter, %d rows of the first entity found", got.Bloom, got.Found)
	}
	if s := fmt.Sprint(got.Sorting); s != "[[0 false] [3 false]]" {
		t.Errorf("sorting columns %s", s)
	}
	for engine, read := range map[string][][]any{"DuckDB": got.DuckDB, "pyarrow": got.Arrow} {
		if len(read) != len(rows) {
			t.Fatalf("%s reads %d rows, want %d", engine, len(read), len(rows))
		}
		for i := range rows {
			compareRow(t, engine, read[i], &rows[i], spec)
		}
	}
}

func compareRow(t *testing.T, engine string, got []any, row *sink.Row, spec sink.Spec) {
	t.Helper()
	micros := func(i int64) json.Number { return json.Number(fmt.Sprint(i)) }
	var until any
	if row.ValidUntil != sink.Never {
		until = micros(row.ValidUntil * 1000)
	}
	want := []any{string(row.Entity), micros(row.Version.AsOf * 1000), micros(row.ComputedAt), micros(row.AvailableAt), until,
		micros(int64(row.Version.Generation)), micros(row.Version.Offset), fmt.Sprintf("%016x", spec.Hash), row.Cause.String()}
	for i, f := range spec.Features {
		want = append(want, asEngine(row.Values[i], f.Type))
	}
	for i := range want {
		if asNumbers(got[i]) != asNumbers(want[i]) {
			t.Fatalf("%s reads %v in column %d of entity %s, want %v", engine, got[i], i, row.Entity, want[i])
		}
	}
}

// asNumbers writes doubles the same way wherever they come from.
func asNumbers(v any) string {
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			return fmt.Sprint(f)
		}
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = asNumbers(v[i])
		}
		return fmt.Sprint(texts)
	case float64:
		return fmt.Sprint(v)
	}
	return fmt.Sprint(v)
}
