package crash

import (
	"regexp"
	"strings"
	"sync"
)

// step is a place in the commit protocol, or in recovery, at which the power can go. The numbers are those of processor/DESIGN.md.
type step string

const (
	sendBefore    step = "2 send: rows are about to go to the segment"
	sendWritten   step = "2 send: the segment has the rows, Redis has not"
	sendComes     step = "2 send: a pipeline is on its way"
	sendHalf      step = "2 send: Redis has half of a pipeline"
	ackLost       step = "3 acknowledge: Redis has the rows, its answer is lost"
	ackBefore     step = "3 acknowledge: the segment does not know yet"
	ackWritten    step = "3 acknowledge: the segment knows, not durably"
	rollCreated   step = "5 roll: the next segment is created"
	rollNamed     step = "5 roll: the next segment's name is durable"
	syncBefore    step = "6 sync: the segment is about to be synced"
	flushTable    step = "6 flush: a table is being written"
	flushStaged   step = "6 flush: a state file is in staging"
	uploadSegment step = "7 upload: the segment is linked"
	uploadState   step = "7 upload: a state file is in the bucket"
	encodePart    step = "7 upload: a part is being encoded"
	stagePart     step = "7 upload: a part is staged"
	commitBefore  step = "8 commit: the manifest is about to be linked"
	commitLinked  step = "8 commit: the manifest is linked, not durably"
	commitDurable step = "8 commit: the manifest is durable"
	publishBefore step = "9 publish: a part is about to get its name"
	publishLinked step = "9 publish: a part has its name"
	publishUnlink step = "9 publish: its staged name is gone"
	forgetSegment step = "10 forget: a segment is removed"
	forgetState   step = "10 forget: an old object is deleted"
	tellOffset    step = "11 tell: the group offset is on its way"
	tellProgress  step = "11 tell: progress is on its way"
	toldProgress  step = "11 tell: progress is written"
	recoverClaim  step = "recovery 2: the shard is claimed"
	recoverClear  step = "recovery 4: the live directory is thrown away"
	recoverState  step = "recovery 4: a state file is restored"
	recoverOpen   step = "recovery 5: a segment is opened again"
	recoverSettle step = "recovery 5: a row in doubt is settled"
	recoverEmit   step = "recovery 7: the first rows go out"
	historyRows   step = "history: rows go to the segment"
	anyInstant    step = "any instant"
)

// steps are all of them.
var steps = []step{
	sendBefore, sendWritten, sendComes, sendHalf, ackLost, ackBefore, ackWritten, rollCreated, rollNamed, syncBefore, flushTable, flushStaged,
	uploadSegment, uploadState, encodePart, stagePart, commitBefore, commitLinked, commitDurable, publishBefore, publishLinked, publishUnlink,
	forgetSegment, forgetState, tellOffset, tellProgress, toldProgress, recoverClaim, recoverClear, recoverState, recoverOpen, recoverSettle,
	recoverEmit, historyRows, anyInstant,
}

// spotter tells of each operation of one life which step of the protocol it is.
type spotter struct {
	mu     sync.Mutex
	shards map[string]stage // guarded by mu
}

// stage is how far a shard is in taking over.
type stage int

const (
	unseen stage = iota
	claimed
	restoring
	emitting // from its own first segment on
	running  // from its first rows on
)

var shardName = regexp.MustCompile(`(buys|visits)[/~]v[0-9][/~](purchases|sessions)[/~][0-9]`)

// disk names the step that an operation is, if it is one.
func (s *spotter) disk(op operation) (step, bool) {
	id := strings.ReplaceAll(shardName.FindString(op.path), "~", "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.shards[id]
	is := func(kind, part string) bool { return op.kind == kind && strings.Contains(op.path, part) }
	segment := strings.HasSuffix(op.path, ".seg")
	switch {
	case is("link", "/manifest/") && op.after && at == unseen:
		s.shards[id] = claimed
		return recoverClaim, true
	case is("removeAll", "/live/") && op.after:
		s.shards[id] = restoring
		return recoverClear, true
	case is("link", "/live/") && op.after:
		return recoverState, true
	case op.kind == "append" && segment && op.after:
		return recoverOpen, true
	case op.kind == "create" && segment && op.after && at < emitting:
		s.shards[id] = emitting
		return "", false
	case op.kind == "write" && segment:
		return s.frame(id, at, op)
	case op.kind == "create" && segment && op.after:
		return rollCreated, true
	case is("syncDir", "/segments/") && op.after && at == running && strings.HasPrefix(op.path, dataDir):
		return rollNamed, true
	case op.kind == "sync" && segment && !op.after && at == running:
		return syncBefore, true
	case is("create", "/live/") && strings.HasSuffix(op.path, ".sst") && op.after:
		return flushTable, true
	case is("link", "/staging/") && op.after:
		return flushStaged, true
	}
	return s.bucket(at, op, is)
}

// frame names what is written to a segment by the kind of the frame (sink/parquet/FORMAT.md).
func (s *spotter) frame(id string, at stage, op operation) (step, bool) {
	switch op.data[8] {
	case 2:
		if at == emitting && op.after {
			s.shards[id] = running
			return recoverEmit, true
		}
		if op.after {
			return sendWritten, true
		}
		return sendBefore, at == running
	case 3:
		switch {
		case at == restoring:
			return recoverSettle, op.after
		case op.after:
			return ackWritten, true
		}
		return ackBefore, true
	case 4:
		s.shards[id] = running
		return historyRows, op.after
	}
	return "", false
}

func (s *spotter) bucket(at stage, op operation, is func(kind, part string) bool) (step, bool) {
	switch {
	case is("link", "/manifest/"):
		if op.after {
			return commitLinked, true
		}
		return commitBefore, at != unseen
	case is("syncDir", "/manifest/"):
		return commitDurable, op.after && at >= emitting
	case is("link", "/state/") && strings.Contains(op.path, "/segments/"):
		return uploadSegment, op.after
	case is("link", "/state/"):
		return uploadState, op.after
	case is("create", "/staging/"):
		return encodePart, op.after
	case is("link", ".parquet.staged"):
		return stagePart, op.after
	case is("link", ".parquet"):
		if op.after {
			return publishLinked, true
		}
		return publishBefore, true
	case is("remove", ".parquet.staged"):
		return publishUnlink, op.after
	case is("remove", ".seg"):
		return forgetSegment, op.after && at == running
	case is("remove", "/state/"):
		return forgetState, op.after
	}
	return "", false
}

// wires names the step that an event on the wire is.
var wires = map[wireEvent]step{
	pipelineComes: sendComes, pipelineHalf: sendHalf, pipelineAnswers: ackLost, progressComes: tellProgress, progressDone: toldProgress,
}

const offsetCommit int16 = 8 // Kafka's number of the request
