package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Admin asks the cluster questions and makes topics. Its methods may be called from any goroutine.
type Admin struct {
	cl  *kgo.Client
	adm *kadm.Client
}

// NewAdmin returns an Admin. It connects when it is first used.
func NewAdmin(cfg Config, log *slog.Logger) (*Admin, error) {
	cl, err := cfg.client(log)
	if err != nil {
		return nil, err
	}
	return &Admin{cl, kadm.NewClient(cl)}, nil
}

// Partitions returns the number of partitions of a topic and its id (22 characters, as Kafka's own tools show it; a topic made anew has another; all zero bytes,
// "AAAAAAAAAAAAAAAAAAAAAA", on brokers before 2.8). A topic that does not exist is ErrUnknownTopic.
func (a *Admin) Partitions(ctx context.Context, topic string) (n int32, topicID string, err error) {
	topics, err := describe(ctx, a.cl, topic)
	if err == nil && topics[topic] == nil {
		err = ErrUnknownTopic
	}
	if err == nil {
		err, _ = fetchError(topics[topic].ErrorCode)
	}
	if err != nil {
		return 0, "", fmt.Errorf("describe topic %s: %w", topic, err)
	}
	t := topics[topic]
	return int32(len(t.Partitions)), base64.RawURLEncoding.EncodeToString(t.TopicID[:]), nil
}

// Offsets returns the first offset of a partition and its last stable offset, behind which a read-committed reader sees nothing.
func (a *Admin) Offsets(ctx context.Context, tp TP) (start, lastStable int64, err error) {
	const first, last = -2, -1 // the protocol's names for them
	if start, err = a.offset(ctx, tp, first); err != nil {
		return 0, 0, err
	}
	if lastStable, err = a.offset(ctx, tp, last); err != nil {
		return 0, 0, err
	}
	return start, lastStable, nil
}

// offset asks for one partition only: kadm lists those of the whole topic, which a thousand shards would each do.
func (a *Admin) offset(ctx context.Context, tp TP, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 1 // read committed: the end is the last stable offset
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = tp.Partition, which
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = tp.Topic
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, a.cl)
	var broker *kerr.Error
	if errors.As(err, &broker) { // the client looks up the leader itself, and may fail at that
		err, _ = fetchError(broker.Code)
	} else if err == nil {
		err = ErrUnknownTopic
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err, _ = fetchError(p.ErrorCode); err == nil {
					return p.Offset, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("list offsets of %s/%d: %w", tp.Topic, tp.Partition, err)
}

// EnsureTopic makes a topic, with the cluster's default replication, unless there is one of that name; that one is left as it is.
func (a *Admin) EnsureTopic(ctx context.Context, name string, partitions int32, config map[string]string) error {
	configs := make(map[string]*string, len(config))
	for k, v := range config {
		configs[k] = &v
	}
	resp, err := a.adm.CreateTopic(ctx, partitions, -1, configs, name)
	if err == nil {
		err = resp.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// TopicConfig returns the settings of a topic in force, such as message.timestamp.type, message.timestamp.after.max.ms, retention.ms and
// cleanup.policy. A broker that does not know a setting leaves it out.
func (a *Admin) TopicConfig(ctx context.Context, topic string) (map[string]string, error) {
	resources, err := a.adm.DescribeTopicConfigs(ctx, topic)
	if err == nil {
		var r kadm.ResourceConfig
		if r, err = resources.On(topic, nil); err == nil {
			err = r.Err
		}
		if err == nil {
			out := make(map[string]string, len(r.Configs))
			for _, c := range r.Configs {
				out[c.Key] = c.MaybeValue()
			}
			return out, nil
		}
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		err = ErrUnknownTopic
	}
	return nil, fmt.Errorf("read settings of topic %s: %w", topic, err)
}

// Cluster is what the cluster says about itself.
type Cluster struct {
	ID      string
	Brokers []Broker
	KIP848  bool // offers the Consumer group protocol
}

// Broker is one broker of a cluster.
type Broker struct {
	ID   int32
	Addr string // host:port
	Rack string
}

// Cluster describes the cluster.
func (a *Admin) Cluster(ctx context.Context) (Cluster, error) {
	meta, err := a.adm.BrokerMetadata(ctx)
	if err != nil {
		return Cluster{}, fmt.Errorf("describe cluster: %w", err)
	}
	c := Cluster{ID: meta.Cluster}
	for _, b := range meta.Brokers {
		broker := Broker{ID: b.NodeID, Addr: fmt.Sprintf("%s:%d", b.Host, b.Port)}
		if b.Rack != nil {
			broker.Rack = *b.Rack
		}
		c.Brokers = append(c.Brokers, broker)
	}
	versions, err := a.adm.ApiVersions(ctx)
	if err != nil {
		return Cluster{}, fmt.Errorf("ask brokers for their versions: %w", err)
	}
	const consumerGroupHeartbeat = 68
	for _, v := range versions {
		if _, ok := v.KeyMaxVersion(consumerGroupHeartbeat); ok {
			c.KIP848 = true
		}
	}
	return c, nil
}

// Close closes the connections.
func (a *Admin) Close() { a.cl.Close() }
