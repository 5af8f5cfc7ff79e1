package kafka

import "hash/crc32"

// Murmur2Partition returns the partition in [0, n) that Java's and franz-go's default partitioners give a non-nil key: the positive
// 32-bit MurmurHash2 (Austin Appleby, seed 0x9747b28c) modulo n, as org.apache.kafka.common.utils.Utils.murmur2 computes it.
func Murmur2Partition(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

func murmur2(b []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := 0x9747b28c ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// CRC32Partition returns the partition in [0, n) that librdkafka's default partitioner (consistent_random; also consistent) gives a
// non-empty key: the CRC-32 (IEEE) modulo n, unsigned. It places records without a key, or with an empty one, at random.
func CRC32Partition(key []byte, n int32) int32 {
	return int32(crc32.ChecksumIEEE(key) % uint32(n))
}
