package event

import (
	"context"
	"fmt"
	"os"
)

// Files are the writers' schemas where there is no registry. The producer and the reader agree on the ids by order: the first file is
// schema 1, the second 2, and so on, in the framing of the Confluent wire format. A file, once used, keeps its place and its text; a new
// version of a schema is a new file at the end.
type Files struct{ schemas []*Schema }

// NewFiles gives the schemas the ids 1, 2, … in order.
func NewFiles(schemas ...*Schema) *Files { return &Files{schemas: schemas} }

// ReadFiles reads the schemas of files, at most 1 MiB each, in order.
func ReadFiles(paths ...string) (*Files, error) {
	f := &Files{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		s, err := ParseWriter(text)
		if err != nil {
			return nil, fmt.Errorf("parse schema %s: %w", path, err)
		}
		f.schemas = append(f.schemas, s)
	}
	return f, nil
}

// Writer implements Writers.
func (f *Files) Writer(_ context.Context, id int32) (*Schema, error) {
	if id < 1 || int(id) > len(f.schemas) {
		return nil, fmt.Errorf("%w %d: there is no registry, and there are schema files for the ids 1 to %d; add the producer's schema as file %d",
			ErrUnknownSchema, id, len(f.schemas), id)
	}
	return f.schemas[id-1], nil
}

// Fixed answers every id with one schema: for a topic whose producers all use it, with ids of a registry that cannot be reached.
// Records written with any other schema will be misread or refused.
type Fixed struct{ Schema *Schema }

// Writer implements Writers.
func (f Fixed) Writer(context.Context, int32) (*Schema, error) { return f.Schema, nil }
