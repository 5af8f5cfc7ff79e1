package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestValidateTellsAllProblems(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err == nil || !strings.Contains(err.Error(), "kafka.brokers: none given") {
		t.Error(err)
	}
	c := Default()
	c.Brokers = []string{"127.0.0.1:9092"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Brokers = append(c.Brokers, "nowhere")
	c.Group, c.Protocol, c.SessionTimeout, c.FetchMaxBytes = "", "new", 0, 1
	c.TLS = TLS{Enabled: true, CAFile: "/no/such", CertFile: "x"}
	c.SASL = SASL{Mechanism: "gssapi", PasswordFile: "/no/such"}
	err := c.Validate()
	for _, want := range []string{"brokers: \"nowhere\"", "group: empty", "protocol: \"new\"", "session_timeout: 0s", "fetch_max_bytes: 1 ",
		"cert_file and key_file", "ca_file: open /no/such", "mechanism: \"gssapi\"", "username: missing", "password_file: open /no/such"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("not told: %s\nin %v", want, err)
		}
	}
	if _, err := NewReader(c, quiet(), nil); err == nil {
		t.Error("a Reader of a bad Config")
	}
}

func TestSASLAndTLS(t *testing.T) {
	t.Parallel()
	cert, caFile := selfSigned(t)
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			_, cfg := fake(t, kfake.EnableSASL(), kfake.Superuser(name, "ann", "secret"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
			password := filepath.Join(t.TempDir(), "password")
			cfg.TLS = TLS{Enabled: true, CAFile: caFile}
			cfg.SASL = SASL{Mechanism: mechanism, Username: "ann", PasswordFile: password}
			if err := os.WriteFile(password, []byte("wrong\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			a := admin(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := a.Cluster(ctx); err == nil {
				t.Fatal("let in with a wrong password")
			}
			if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := a.Cluster(within(t))
			if err != nil || len(c.Brokers) != 1 || !c.KIP848 {
				t.Fatal(c, err)
			}
		})
	}
}

func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestPartitionersAgreeWithTheClients(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	murmur := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for range 20_000 {
		key := make([]byte, rng.IntN(40))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		n := 1 + rng.Int32N(200)
		if got, want := Murmur2Partition(key, n), int32(murmur.Partition(&kgo.Record{Key: key}, int(n))); got != want {
			t.Fatalf("murmur2 of %x: %d of %d, franz-go %d", key, got, n, want)
		}
		if got, want := CRC32Partition(key, n), int32(crc32.Update(0, crc32.IEEETable, key)%uint32(n)); got != want {
			t.Fatalf("crc32 of %x: %d of %d, want %d", key, got, n, want)
		}
	}
	// From Kafka's UtilsTest.testMurmur2 and librdkafka's unit tests of its partitioners.
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
	for key, want := range map[string]uint32{"23456": 0xb1b451d7, "this is another string with more length to it perhaps": 0xb0150df7} {
		if got := crc32.ChecksumIEEE([]byte(key)); got != want {
			t.Errorf("crc32(%q) = %#x, want %#x", key, got, want)
		}
	}
}

func TestProducerPlacesAndReports(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	topic := newTopic(t, cfg, 5, nil)
	p := producer(t, cfg)
	rs := numbered(0, 200)
	if err := p.Produce(within(t), topic, rs, ByKey); err != nil {
		t.Fatal(err)
	}
	r := reader(t, cfg)
	for i := range int32(5) {
		r.Add(TP{topic, i}, 0)
	}
	n := 0
	await(t, r, func(f Fetch) bool {
		for _, rec := range f.Records {
			if want := Murmur2Partition(rec.Key, 5); f.TP.Partition != want {
				t.Fatalf("%s is on %d, not on %d", rec.Key, f.TP.Partition, want)
			}
		}
		n += len(f.Records)
		return n == 200
	})
	if err := p.Produce(within(t), topic, rs[:2], 9); err == nil || !strings.Contains(err.Error(), "2 of 2 records: write to topic "+topic) {
		t.Errorf("partition 9 of 5: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	lost := cfg
	lost.Brokers = []string{"127.0.0.1:1"}
	if err := producer(t, lost).Produce(ctx, topic, rs[:1], 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with no broker: %v", err)
	}
	p.Close()
	if err := p.Produce(within(t), topic, rs[:1], 0); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	topic := newTopic(t, cfg, 3, nil)
	a := admin(t, cfg)
	if n, id, err := a.Partitions(within(t), topic); n != 3 || len(id) != 22 || id == strings.Repeat("A", 22) || err != nil {
		t.Error(n, id, err)
	}
	if err := a.EnsureTopic(within(t), topic, 9, nil); err != nil {
		t.Error(err)
	}
	conf, err := a.TopicConfig(within(t), topic)
	if err != nil || conf["retention.ms"] != "-1" || conf["cleanup.policy"] != "delete" || conf["message.timestamp.type"] != "CreateTime" {
		t.Error(conf, err)
	}
	if _, err := a.TopicConfig(within(t), "no-such"); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	if _, _, err := a.Offsets(within(t), TP{topic, 3}); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	if _, _, err := a.Offsets(within(t), TP{"no-such", 0}); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	c, err := a.Cluster(within(t))
	if err != nil || len(c.Brokers) != 1 || c.Brokers[0].Addr != cfg.Brokers[0] || c.ID == "" {
		t.Error(c, err)
	}
}
