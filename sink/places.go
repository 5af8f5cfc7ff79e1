package sink

import (
	"context"
	"errors"
	"strings"
)

// Places is a Bucket of two: names under log/ lie in Log, without that prefix, all others in Rest. So the log, which others read, can be kept
// apart from manifests and state.
type Places struct{ Log, Rest Bucket }

var _ Bucket = Places{}

func (p Places) of(name string) (Bucket, string) {
	if rest, ok := strings.CutPrefix(name, "log/"); ok {
		return p.Log, rest
	}
	return p.Rest, name
}

// PutIfAbsent implements Bucket.
func (p Places) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	b, n := p.of(name)
	return b.PutIfAbsent(ctx, n, data)
}

// Get implements Bucket.
func (p Places) Get(ctx context.Context, name string) ([]byte, error) {
	b, n := p.of(name)
	return b.Get(ctx, n)
}

// PutFile implements Bucket.
func (p Places) PutFile(ctx context.Context, name, localPath string) error {
	b, n := p.of(name)
	return b.PutFile(ctx, n, localPath)
}

// GetFile implements Bucket.
func (p Places) GetFile(ctx context.Context, name, localPath string) error {
	b, n := p.of(name)
	return b.GetFile(ctx, n, localPath)
}

// Publish implements Bucket. Both names lie in one place.
func (p Places) Publish(ctx context.Context, from, to string) error {
	a, f := p.of(from)
	b, t := p.of(to)
	if a != b {
		return errors.New("publish from one place to another")
	}
	return a.Publish(ctx, f, t)
}

// List implements Bucket. The prefix lies in one place.
func (p Places) List(ctx context.Context, prefix, after string) ([]string, error) {
	b, n := p.of(prefix)
	if n == prefix {
		return b.List(ctx, n, after)
	}
	names, err := b.List(ctx, n, strings.TrimPrefix(after, "log/"))
	for i := range names {
		names[i] = "log/" + names[i]
	}
	return names, err
}

// Delete implements Bucket.
func (p Places) Delete(ctx context.Context, name string) error {
	b, n := p.of(name)
	return b.Delete(ctx, n)
}
