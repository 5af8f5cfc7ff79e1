package feature

import (
	"encoding/json"
	"slices"
)

// JSONSchema returns the JSON Schema (draft-07) of definition files, for editors. It is made of the tables that the parser works by, and
// says all that can be said of the structure; what needs the event schema or a comparison of values is the parser's alone.
func JSONSchema() []byte {
	root := objectSchema(definitionKeys, "A freshet feature group.")
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "freshet feature group"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of texts and integers
	}
	return append(text, '\n')
}

type schemaMap = map[string]any

func objectSchema(keys []key, doc string) schemaMap {
	properties := schemaMap{}
	var needed []string
	for _, k := range keys {
		properties[k.name] = keySchema(k)
		if k.required {
			needed = append(needed, k.name)
		}
	}
	s := schemaMap{"type": "object", "additionalProperties": false, "properties": properties, "description": doc}
	if needed != nil {
		s["required"] = needed
	}
	return s
}

func keySchema(k key) schemaMap {
	s := schemaMap{"type": "string"}
	switch k.form {
	case formText:
		limit(s, "minLength", max(k.min, 1))
		limit(s, "maxLength", k.max)
		if k.pattern != "" {
			s["pattern"] = k.pattern
		}
		if k.enum != nil {
			s = schemaMap{"enum": k.enum}
		}
	case formInteger:
		s["type"] = "integer"
		limit(s, "minimum", k.min)
		limit(s, "maximum", k.max)
	case formDuration:
		s["pattern"] = durationPattern
	case formWindow:
		s["pattern"] = windowPattern
	case formExpression:
		s = schemaMap{"type": []string{"string", "boolean"}, "maxLength": MaxExpressionChars}
	case formTexts, formWindows, formObjects:
		var items schemaMap
		switch {
		case k.form == formObjects:
			items = featureSchema(k.keys)
		case k.form == formWindows:
			items = keySchema(key{form: formWindow})
		default:
			items = keySchema(key{form: formText, pattern: k.pattern})
		}
		delete(items, "description")
		s = schemaMap{"type": "array", "items": items}
		limit(s, "minItems", k.min)
		limit(s, "maxItems", k.max)
		if k.form != formObjects {
			s["uniqueItems"] = true
		}
	case formObject:
		s = objectSchema(k.keys, k.doc)
	}
	s["description"] = k.doc
	return s
}

func limit(s schemaMap, name string, n int64) {
	if n > 0 {
		s[name] = n
	}
}

// featureSchema says, beyond the keys, which of them go together.
func featureSchema(keys []key) schemaMap {
	s := objectSchema(keys, "A feature.")
	s["oneOf"] = []schemaMap{{"required": []string{"agg"}}, {"required": []string{"derive"}}}
	rules := []schemaMap{
		{"not": schemaMap{"required": []string{"window", "windows"}}},
		rule(schemaMap{"required": []string{"derive"}}, keys, nil, derivedKeys),
	}
	for _, a := range aggregations {
		needs := slices.Clone(a.needs)
		if a.column == required {
			needs = append(needs, "of")
		}
		is := schemaMap{"required": []string{"agg"}, "properties": schemaMap{"agg": schemaMap{"const": a.name}}}
		rules = append(rules, rule(is, keys, needs, a.keys()))
	}
	s["allOf"] = rules
	return s
}

// rule says: where a feature is so, it needs some keys and may have no others than those allowed.
func rule(is schemaMap, keys []key, needs, allowed []string) schemaMap {
	refused := schemaMap{}
	for _, k := range keys {
		if !slices.Contains(allowed, k.name) {
			refused[k.name] = false
		}
	}
	then := schemaMap{"properties": refused}
	if needs != nil {
		then["required"] = needs
	}
	return schemaMap{"if": is, "then": then}
}
