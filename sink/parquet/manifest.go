package parquet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/freshet-dev/freshet/sink"
)

// ManifestFormat is the version of the manifests' format. Readers refuse any they do not know.
const ManifestFormat = 1

// FullEvery is how often a manifest carries the full list of parts: where Seq is a multiple of it.
const FullEvery = 100

// ErrFenced is returned where another owner has committed: stop, and drop the local state.
var ErrFenced = errors.New("fenced: another owner has committed this shard")

// Manifest commits a checkpoint of one shard, and with it all that it names. The chain of a shard's manifests begins at Seq 0 or 1 and has
// no gaps but at its pruned old end.
type Manifest struct {
	Format         int    `json:"format"` // set by Encode
	Store          string `json:"store"`  // id of the store the chain lives in
	Group          string `json:"group"`
	GroupVersion   int    `json:"group_version"`
	DefinitionHash string `json:"definition_hash"` // 16 hex
	Topic          string `json:"topic"`
	TopicID        string `json:"topic_id"`
	Partition      int32  `json:"partition"`
	Partitions     int32  `json:"partitions"` // of the topic, when the version was first run
	Seq            int64  `json:"seq"`
	Epoch          int64  `json:"epoch"` // rises with each owner
	Owner          string `json:"owner"`
	Generation     uint32 `json:"generation"`

	Position       int64 `json:"position"`        // offset of the next record
	Clock          int64 `json:"clock"`           // stream clock, ms
	LastTick       int64 `json:"last_tick"`       // last tick worked off, ms
	AvailableClock int64 `json:"available_clock"` // largest available_at given so far, µs
	OffsetsTiled   int64 `json:"offsets_tiled"`   // the parts committed so far stand for the offsets before it

	Bootstrap Bootstrap   `json:"bootstrap"`
	State     []StateFile `json:"state"`
	Segment   SegmentRef  `json:"segment"`

	PartsAdded    []Part `json:"parts_added"`
	PartsReplaced []Part `json:"parts_replaced"`
	Parts         []Part `json:"parts"`      // all committed, this manifest's included; only if PartsFull
	PartsFull     bool   `json:"parts_full"` // every FullEvery-th

	CreatedAt string `json:"created_at"` // RFC 3339
}

// Bootstrap says which of a partition's records are history.
type Bootstrap struct {
	Start     int64  `json:"start"`      // wall time of the version's first start, ms
	EndOffset int64  `json:"end_offset"` // records before it are history
	History   string `json:"history"`    // rows, daily or none
	Done      bool   `json:"done"`       // Redis has been filled from the state
}

// StateFile is one file of the checkpoint.
type StateFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// SegmentRef says how far a row segment was committed: its first Length bytes, whose SHA-256 is in hex.
type SegmentRef struct {
	Name   string `json:"name"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// The seal is what a manifest ends in: the SHA-256, in hex, of all bytes before it.
const (
	sealStart = `,"sha256":"`
	sealEnd   = "\"}\n"
	sealBytes = len(sealStart) + 2*sha256.Size + len(sealEnd)
)

// Encode returns the manifest as sealed JSON, and sets its Format.
func (m *Manifest) Encode() []byte {
	m.Format = ManifestFormat
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // integers, strings and lists of them
	}
	b = b[:len(b)-1] // its closing brace
	sum := sha256.Sum256(b)
	b = append(b, sealStart...)
	b = hex.AppendEncode(b, sum[:])
	return append(b, sealEnd...)
}

// DecodeManifest reads a manifest. It returns ErrDamaged for bytes that Encode has not written, and another error for a format that this
// binary does not know.
func DecodeManifest(b []byte) (*Manifest, error) {
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &format); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", ErrDamaged, err)
	}
	if format.Format > ManifestFormat { // its seal may be another too
		return nil, fmt.Errorf("manifest has format %d, this binary knows %d: use the release that wrote it, or a later one", format.Format, ManifestFormat)
	}
	if len(b) < sealBytes {
		return nil, fmt.Errorf("manifest is %w: it has %d bytes", ErrDamaged, len(b))
	}
	body, seal := b[:len(b)-sealBytes], b[len(b)-sealBytes:]
	sum := sha256.Sum256(body)
	if string(seal) != sealStart+hex.EncodeToString(sum[:])+sealEnd {
		return nil, fmt.Errorf("manifest is %w: its bytes are not those that were sealed", ErrDamaged)
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(append(slices.Clone(body), '}')))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", ErrDamaged, err)
	}
	if m.Format != ManifestFormat {
		return nil, fmt.Errorf("manifest is %w: format %d", ErrDamaged, m.Format)
	}
	return m, nil
}

// ManifestName returns the name of a manifest in the bucket. Of one shard, names sort as sequence numbers do.
func ManifestName(group string, version int, topic string, partition int32, seq int64) string {
	return fmt.Sprintf("%s%010d.json", manifestPrefix(group, version, topic, partition), seq)
}

func manifestPrefix(group string, version int, topic string, partition int32) string {
	return fmt.Sprintf("manifest/%s/v%d/%s/%d/", group, version, topic, partition)
}

func (m *Manifest) name(seq int64) string {
	return ManifestName(m.Group, m.GroupVersion, m.Topic, m.Partition, seq)
}

// Latest returns the newest manifest of a shard; sink.ErrNotExist if it has none. A damaged one is an error, never passed over for the one
// before: that would undo a commit.
func Latest(ctx context.Context, b sink.Bucket, group string, version int, topic string, partition int32) (*Manifest, error) {
	prefix := manifestPrefix(group, version, topic, partition)
	names, err := b.List(ctx, prefix, "")
	if err != nil {
		return nil, fmt.Errorf("find latest manifest: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("find latest manifest %s: %w", prefix, sink.ErrNotExist)
	}
	return getManifest(ctx, b, names[len(names)-1])
}

func getManifest(ctx context.Context, b sink.Bucket, name string) (*Manifest, error) {
	data, err := b.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m, err := DecodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	if m.name(m.Seq) != name {
		return nil, fmt.Errorf("read manifest %s: %w: it is that of %s", name, ErrDamaged, m.name(m.Seq))
	}
	return m, nil
}

// PublishManifest commits m, durably: the one commit point. It returns ErrFenced if its sequence number, or a later one, is another
// owner's. After any other error it is unknown whether m is committed; publishing the same m again tells, for what is there already and
// equals it is a success.
func PublishManifest(ctx context.Context, b sink.Bucket, m *Manifest) error {
	name := m.name(m.Seq)
	data := m.Encode()
	err := b.PutIfAbsent(ctx, name, data)
	if errors.Is(err, sink.ErrExists) {
		there, gerr := b.Get(ctx, name)
		if gerr != nil {
			return fmt.Errorf("publish manifest: %w", gerr)
		}
		if !bytes.Equal(there, data) {
			return fmt.Errorf("publish manifest %s: %w", name, ErrFenced)
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("publish manifest: %w", err)
	}
	// An owner that slept while the others pruned the chain finds its number free again. What it wrote there is behind the chain's newest
	// manifest, and before its oldest: nobody reads it.
	later, err := b.List(ctx, manifestPrefix(m.Group, m.GroupVersion, m.Topic, m.Partition), name)
	if err != nil {
		return fmt.Errorf("publish manifest: %w", err)
	}
	if len(later) > 0 {
		return fmt.Errorf("publish manifest %s: %w: there is %s", name, ErrFenced, later[len(later)-1])
	}
	return nil
}

// ShardParts returns the committed parts up to m, sorted by name: those of the last full list, with what came and went since.
func ShardParts(ctx context.Context, b sink.Bucket, m *Manifest) ([]Part, error) {
	chain := []*Manifest{m}
	for last := m; !last.PartsFull; {
		before, err := getManifest(ctx, b, last.name(last.Seq-1))
		if errors.Is(err, sink.ErrNotExist) && last.Seq <= 1 {
			break // the first of all
		}
		if err != nil {
			return nil, fmt.Errorf("list parts: %w", err)
		}
		chain = append(chain, before)
		last = before
	}
	parts := map[string]Part{}
	for _, m := range slices.Backward(chain) {
		if m.PartsFull {
			clear(parts)
			for _, p := range m.Parts {
				parts[p.Name] = p
			}
			continue
		}
		for _, p := range m.PartsReplaced {
			delete(parts, p.Name)
		}
		for _, p := range m.PartsAdded {
			parts[p.Name] = p
		}
	}
	return slices.SortedFunc(maps.Values(parts), func(a, b Part) int { return strings.Compare(a.Name, b.Name) }), nil
}

// Parts returns the committed parts of a group version over all its shards, sorted by name: what a reader pins before it reads.
func Parts(ctx context.Context, b sink.Bucket, group string, version int) ([]Part, error) {
	newest, err := newestNames(ctx, b, group, version)
	if err != nil {
		return nil, err
	}
	var all []Part
	for _, name := range newest {
		m, err := getManifest(ctx, b, name)
		if err != nil {
			return nil, err
		}
		parts, err := ShardParts(ctx, b, m)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
	}
	slices.SortFunc(all, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// newestNames returns the name of the newest manifest of each shard.
func newestNames(ctx context.Context, b sink.Bucket, group string, version int) ([]string, error) {
	names, err := b.List(ctx, fmt.Sprintf("manifest/%s/v%d/", group, version), "")
	if err != nil {
		return nil, fmt.Errorf("list manifests: %w", err)
	}
	var newest []string
	for i, name := range names { // sorted: a shard's are together, its newest last
		if i+1 == len(names) || path.Dir(names[i+1]) != path.Dir(name) {
			newest = append(newest, name)
		}
	}
	return newest, nil
}

// Prune deletes the manifests of m's shard that are older than the last full list at or before m, but for the keep newest of them. m must
// be committed.
func Prune(ctx context.Context, b sink.Bucket, m *Manifest, keep int64) error {
	full := m.Seq / FullEvery * FullEvery
	names, err := b.List(ctx, manifestPrefix(m.Group, m.GroupVersion, m.Topic, m.Partition), "")
	if err != nil {
		return fmt.Errorf("prune manifests: %w", err)
	}
	if !slices.Contains(names, m.name(full)) {
		return nil // no list to start from
	}
	if start, err := getManifest(ctx, b, m.name(full)); err != nil || !start.PartsFull {
		return err
	}
	oldest := m.name(max(0, full-keep))
	for _, name := range names {
		if name >= oldest {
			break
		}
		if err := b.Delete(ctx, name); err != nil {
			return fmt.Errorf("prune manifests: %w", err)
		}
	}
	return nil
}
