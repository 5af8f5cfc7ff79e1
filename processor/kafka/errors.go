package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The errors of a [Fetch]. The partition stays where it is and is tried again, ever more slowly, until it works or is removed.
var (
	ErrOutOfRange     = errors.New("the position is not in the partition: records were deleted before they were read, or the partition was cut off")
	ErrUnknownTopic   = errors.New("no such topic or partition")
	ErrTopicRecreated = errors.New("the topic was deleted and made anew: its offsets mean other records now")
	ErrUnauthorized   = errors.New("not allowed to read the topic: grant this user READ and DESCRIBE on it")
	ErrTooLarge       = errors.New("a batch decompresses beyond kafka.max_decompressed_bytes: raise it")
	ErrCorrupt        = errors.New("a batch cannot be decoded")
	ErrUnavailable    = errors.New("the partition's broker cannot be reached")
)

// ErrClosed is returned by what is called after Close.
var ErrClosed = errors.New("kafka: closed")

// ErrFenced ends a Group: another process has joined under the same instance id.
var ErrFenced = errors.New("another process has joined the group with this kafka.instance_id: give each process its own")

// fetchError returns what a broker's answer for a partition means to the reader of a Fetch, and whether the leader must be looked up again.
func fetchError(code int16) (err error, stale bool) {
	broker := kerr.ErrorForCode(code)
	switch broker {
	case nil:
		return nil, false
	case kerr.OffsetOutOfRange:
		return ErrOutOfRange, false
	case kerr.TopicAuthorizationFailed:
		return ErrUnauthorized, false
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID:
		return ErrUnknownTopic, true
	case kerr.CorruptMessage:
		return ErrCorrupt, false
	case kerr.UnsupportedCompressionType:
		return fmt.Errorf("%w: %w", ErrCorrupt, broker), false
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, broker), true
}

// decodeError returns what an error of the batch decoder means.
func decodeError(err error) error {
	var large *kgo.ErrDecompressTooLarge
	if errors.As(err, &large) {
		return fmt.Errorf("%w (the batch at offset %d)", ErrTooLarge, large.Offset)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

var errorReasons = []struct {
	err   error
	label string
}{
	{ErrOutOfRange, "out_of_range"},
	{ErrUnknownTopic, "unknown_topic"},
	{ErrTopicRecreated, "topic_recreated"},
	{ErrUnauthorized, "unauthorized"},
	{ErrTooLarge, "too_large"},
	{ErrCorrupt, "corrupt"},
	{ErrUnavailable, "unavailable"},
}

// reason returns the label of err in the metrics.
func reason(err error) string {
	for _, r := range errorReasons {
		if errors.Is(err, r.err) {
			return r.label
		}
	}
	return "other"
}
