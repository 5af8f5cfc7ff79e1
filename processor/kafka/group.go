package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Callbacks tell of a Group's partitions. They are called one at a time, from the group's goroutine, and may call Commit. All but Fatal
// must be set.
type Callbacks struct {
	// Assigned says what is ours from now on. It must return at once: while it runs others wait, or own the partition too.
	Assigned func([]TP)
	// Revoked says what is being taken away, and returns when it has been handed over. ctx ends after Config.RevokeTimeout, when the next
	// owner may begin, handed over or not.
	Revoked func(ctx context.Context, tps []TP)
	// Lost says what is gone already: the session timed out, and others may own it.
	Lost func([]TP)
	// Fatal says that the group is over for this process (ErrFenced, no permission), after Lost. It is called once at most.
	Fatal func(error)
}

// Group is membership of a consumer group, and nothing else: its client never fetches, and what it commits is advice to lag tools.
// Nothing here fences: two owners may believe in the same partition for a while.
type Group struct {
	cfg  Config
	log  *slog.Logger
	cb   Callbacks
	cl   *kgo.Client
	adm  *kadm.Client
	up   chan struct{} // closed when the fields above are set: the client may call back before that
	once sync.Once     // Fatal
	wg   sync.WaitGroup
	end  context.CancelFunc
}

// Join joins the group of cfg for the given topics, which need not exist yet. It returns before partitions are assigned. ctx bounds the
// first contact with the cluster.
func Join(ctx context.Context, cfg Config, topics []string, cb Callbacks, log *slog.Logger) (*Group, error) {
	if len(topics) == 0 {
		return nil, errors.New("join group: no topics")
	}
	g := &Group{cfg: cfg, log: log, cb: cb, up: make(chan struct{})}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(cfg.Group),
		kgo.ConsumeTopics(topics...),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(cfg.SessionTimeout),
		// Longer than a handing-over may take, or the broker would throw the member out for being slow.
		kgo.RebalanceTimeout(cfg.RevokeTimeout + cfg.SessionTimeout),
		kgo.HeartbeatInterval(cfg.SessionTimeout / 10),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			<-g.up
			if tps := list(m); len(tps) > 0 {
				cb.Assigned(tps)
			}
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			<-g.up
			if tps := list(m); len(tps) > 0 {
				ctx, cancel := context.WithTimeout(context.Background(), cfg.RevokeTimeout)
				defer cancel()
				cb.Revoked(ctx, tps)
			}
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			<-g.up
			if tps := list(m); len(tps) > 0 {
				cb.Lost(tps)
			}
		}),
		kgo.WithHooks(g),
	}
	if cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(cfg.InstanceID))
	}
	if cfg.Protocol == Consumer {
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	} else {
		opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	cl, err := cfg.client(log, opts...)
	if err != nil {
		return nil, err
	}
	cl.PauseFetchTopics(topics...)
	g.cl, g.adm = cl, kadm.NewClient(cl)
	var run context.Context
	run, g.end = context.WithCancel(context.Background())
	close(g.up)
	if err := cl.Ping(ctx); err != nil {
		g.end()
		cl.Close()
		return nil, fmt.Errorf("reach kafka at %v: %w", cfg.Brokers, err)
	}
	g.wg.Go(func() { g.drain(run) })
	return g, nil
}

// drain takes what the client would hand to a consumer. All topics are paused, so it is errors, which the hook has told of already.
func (g *Group) drain(ctx context.Context) {
	for ctx.Err() == nil && !g.cl.PollFetches(ctx).IsClientClosed() {
	}
}

// OnGroupManageError implements kgo.HookGroupManageError: the session died with err, and the client is about to join again.
func (g *Group) OnGroupManageError(err error) {
	<-g.up
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		// Joining again would take the id back from the other process, which would take it back in turn.
		err = fmt.Errorf("%w (%q)", ErrFenced, g.cfg.InstanceID)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.InvalidSessionTimeout),
		errors.Is(err, kerr.InconsistentGroupProtocol):
		err = fmt.Errorf("join group %s: %w", g.cfg.Group, err)
	case errors.Is(err, kerr.UnreleasedInstanceID): // the newer protocol's way; a killed process's id stays taken until its session times out
		g.log.Warn("kafka.instance_id is taken by another process, or by one that was killed; joining again", "instance_id", g.cfg.InstanceID)
		return
	default:
		g.log.Warn("kafka group session lost; joining again", "group", g.cfg.Group, "err", err)
		return
	}
	g.once.Do(func() {
		var now context.Context // nil is its way to say: begin and do not wait, for we are inside the loop that must end
		_ = g.cl.LeaveGroupContext(now)
		if g.cb.Fatal != nil {
			g.cb.Fatal(err)
		}
	})
}

// Commit publishes offset as the group's position in tp, with metadata (at most 4 KiB). Only lag tools read it.
func (g *Group) Commit(ctx context.Context, tp TP, offset int64, metadata string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				req.Topics[i].Partitions[j].Metadata = &metadata
			}
		}
		return nil
	})
	var result error
	g.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{tp.Topic: {tp.Partition: {Epoch: -1, Offset: offset}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				result = err
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					result = errors.Join(result, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	if result != nil {
		return fmt.Errorf("commit offset of %s/%d: %w", tp.Topic, tp.Partition, result)
	}
	return nil
}

// CommittedOffset is what a group has committed for a partition.
type CommittedOffset struct {
	Offset   int64
	Metadata string
}

// Committed returns what the group has committed for tps; those without a commit are left out.
func (g *Group) Committed(ctx context.Context, tps []TP) (map[TP]CommittedOffset, error) {
	resp, err := g.adm.FetchOffsets(ctx, g.cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("read committed offsets of group %s: %w", g.cfg.Group, err)
	}
	out := make(map[TP]CommittedOffset, len(tps))
	for _, tp := range tps {
		o, ok := resp.Lookup(tp.Topic, tp.Partition)
		switch {
		case !ok || o.At < 0:
		case o.Err != nil:
			return nil, fmt.Errorf("read committed offset of %s/%d: %w", tp.Topic, tp.Partition, o.Err)
		default:
			out[tp] = CommittedOffset{Offset: o.At, Metadata: o.Metadata}
		}
	}
	return out, nil
}

// Close hands the partitions over (Revoked) and ends the membership. With an instance id the partitions stay assigned to it until the
// session times out, and a restart by then takes them back at once. Without one, the group is left.
func (g *Group) Close(ctx context.Context) error { return g.leave(ctx, false) }

// Leave is Close for good: an instance id is given up too, so others get the partitions at once.
func (g *Group) Leave(ctx context.Context) error { return g.leave(ctx, true) }

func (g *Group) leave(ctx context.Context, forGood bool) error {
	static := g.cfg.InstanceID != ""
	member, _ := g.cl.GroupMetadata()
	err := g.cl.LeaveGroupContext(ctx)
	if static && g.cfg.Protocol == Consumer && errors.Is(err, kerr.InvalidRequest) {
		err = nil // kgo 1.22 leaves out the instance id; done right below
	}
	// The id is given up after the handing over: the other way round the next owner would begin before we have stopped.
	if err == nil && static && member != "" {
		err = g.leaveStatic(ctx, member, forGood)
	}
	if err != nil {
		err = fmt.Errorf("leave group %s: %w", g.cfg.Group, err)
	}
	g.cl.Close()
	g.end()
	g.wg.Wait()
	return err
}

// leaveStatic tells the broker that a static member is away for a while, or for good. Each protocol of the group has its own way for that,
// and a cluster without the newer one was joined by the older.
func (g *Group) leaveStatic(ctx context.Context, member string, forGood bool) error {
	if g.cfg.Protocol == Consumer {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.InstanceID = g.cfg.Group, member, &g.cfg.InstanceID
		req.MemberEpoch = -2 // for a while; without it the id would count as taken until the session times out
		if forGood {
			req.MemberEpoch = -1
		}
		resp, err := req.RequestWith(ctx, g.cl)
		if err == nil && resp.ErrorCode == 0 {
			return nil
		}
	}
	if !forGood {
		return nil // the classic protocol has no word for it
	}
	resp, err := g.adm.LeaveGroup(ctx, kadm.LeaveGroup(g.cfg.Group).Reason("leaving for good").InstanceIDs(g.cfg.InstanceID))
	if err != nil {
		return err
	}
	return resp.Error()
}

func list(m map[string][]int32) []TP {
	var tps []TP
	for topic, partitions := range m {
		for _, p := range partitions {
			tps = append(tps, TP{topic, p})
		}
	}
	return tps
}
