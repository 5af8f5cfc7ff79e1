// Package oracle is the slow judge of freshet's values: it reads a definition and raw records and works every value out again from the
// events alone. It keeps no running state, only lists of events, and computes each value from all events of its window with math/big.
//
// It shares no code with what it judges: the definition is read with gopkg.in/yaml.v3, events are decoded with github.com/twmb/avro, and
// expressions are evaluated by cel-go's own interpreter. Definitions are expected to be right: the oracle understands the language, it does
// not lint it.
//
//	g, err := oracle.Load(definition, schema)
//	h, err := g.Admit(records, writer) // the records of one partition, in offset order
//	h.Verdicts[i]                      // what became of record i, and the stream clock after it
//	h.Values(entity, asOf, offset)     // the features of an entity
//	h.Rows(func(r *oracle.Row) error)  // every row of an ideal run, in order
package oracle
