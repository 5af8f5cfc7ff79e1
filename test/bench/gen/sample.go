package gen

// Event is one event of a sample, with its place in the shard it goes to.
type Event struct {
	User, TS int64 // TS in ms
	Amount   float64
	Product  int64
	Quantity int32
	Shard    int
	Offset   int64 // how many events went to the shard before it
	Clock    int64 // ms: the largest event time among those; 0 if it is the first
}

// File says what Generate makes, and to which of how many shards the events of a user go.
type File struct {
	Dist   byte
	Events int64
	Users  int
	Shards int
	Shard  func(user int64) int // from 0
}

// Sample makes the events of Generate and keeps those of the users that pick wants, with what of all the others bears on them: a judge can
// tell the rows of a few users of a large file from it.
func Sample(f File, pick func(user int64) bool) []Event {
	var sample []Event
	offsets, clocks := make([]int64, f.Shards), make([]int64, f.Shards)
	Generate(f.Dist, f.Events, f.Users, func(user, ts int64, amount float64, product int64, quantity int32) {
		s := f.Shard(user)
		if pick(user) {
			sample = append(sample, Event{user, ts, amount, product, quantity, s, offsets[s], clocks[s]})
		}
		offsets[s]++
		clocks[s] = max(clocks[s], ts)
	})
	return sample
}
