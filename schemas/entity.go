package schemas

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxEntityBytes is the longest text of an entity.
const MaxEntityBytes = 1024

// AppendEntity appends the text of an entity to dst: its key fields (String, Int, UUID, Bytes; none null) joined by '|', with '|' and '\'
// in them escaped by '\'.
func AppendEntity(dst []byte, keys ...Value) []byte {
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, '|')
		}
		if k.Kind != String {
			dst = AppendKey(dst, k)
			continue
		}
		for _, c := range k.Bytes {
			if c == '|' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
	}
	return dst
}

// AppendKey appends the text of one key field, not escaped: what a record key of `key_format: text` is.
func AppendKey(dst []byte, k Value) []byte {
	switch k.Kind {
	case Int:
		return strconv.AppendInt(dst, k.Int64(), 10)
	case UUID:
		return AppendUUID(dst, k.Bytes)
	case Bytes:
		return hex.AppendEncode(dst, k.Bytes)
	}
	return append(dst, k.Bytes...)
}

// AppendUUID appends the canonical text of a 16-byte UUID.
func AppendUUID(dst, u []byte) []byte {
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, u[:n])
		u = u[n:]
	}
	return dst
}

// ParseEntity is the inverse of AppendEntity for keys of the given types. The values' Bytes are new.
func ParseEntity(text []byte, types []Type) ([]Value, error) {
	var parts [][]byte
	var cur []byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if i++; i == len(text) {
				return nil, fmt.Errorf("entity %q ends in a lone '\\'", text)
			}
			cur = append(cur, text[i])
		case c == '|':
			parts = append(parts, cur)
			cur = nil
		default:
			cur = append(cur, c)
		}
	}
	parts = append(parts, cur)
	if len(parts) != len(types) {
		return nil, fmt.Errorf("entity %q has %d key fields, the group has %d", text, len(parts), len(types))
	}
	values := make([]Value, len(types))
	for i, p := range parts {
		v, err := parseKey(p, types[i])
		if err != nil {
			return nil, fmt.Errorf("entity %q, key field %d: %w", text, i+1, err)
		}
		values[i] = v
	}
	return values, nil
}

func parseKey(p []byte, t Type) (Value, error) {
	switch t.Kind {
	case Int:
		n, err := strconv.ParseInt(string(p), 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != string(p) {
			return Value{}, fmt.Errorf("%q is not an integer", p)
		}
		return IntValue(n), nil
	case UUID:
		b := make([]byte, 0, 32)
		for i, c := range p {
			if i == 8 || i == 13 || i == 18 || i == 23 {
				if c != '-' {
					return Value{}, fmt.Errorf("%q is not a UUID", p)
				}
				continue
			}
			b = append(b, c)
		}
		u, err := hex.DecodeString(string(b))
		if err != nil || len(u) != 16 {
			return Value{}, fmt.Errorf("%q is not a UUID", p)
		}
		return Value{Kind: UUID, Bytes: u}, nil
	case Bytes:
		b, err := hex.DecodeString(string(p))
		if err != nil {
			return Value{}, fmt.Errorf("%q is not hexadecimal", p)
		}
		return Value{Kind: Bytes, Bytes: b}, nil
	default:
		if !utf8.Valid(p) {
			return Value{}, fmt.Errorf("%q is not UTF-8", p)
		}
		return Value{Kind: String, Bytes: append([]byte{}, p...)}, nil
	}
}
