package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The protocols of a consumer group.
const (
	Classic = "classic" // any broker; cooperative-sticky, so a rebalance stops only the partitions that move
	// Consumer is KIP-848's: the broker assigns. It needs Kafka 4.3 or newer (an older one may refuse commits; one that does not know it at
	// all gets Classic). The instance id of a process that was killed stays taken until its session times out, so Classic is the default.
	Consumer = "consumer"
)

// Config says how to reach a cluster and how much to hold of it in memory.
type Config struct {
	Brokers    []string `yaml:"brokers"`     // host:port of some brokers
	Group      string   `yaml:"group"`       // the consumer group of all instances
	InstanceID string   `yaml:"instance_id"` // static membership: a restart takes its partitions back at once. Unique in the group
	ClientID   string   `yaml:"client_id"`   // in the broker's logs and quotas
	Protocol   string   `yaml:"protocol"`    // Classic or Consumer
	TLS        TLS      `yaml:"tls"`
	SASL       SASL     `yaml:"sasl"`

	SessionTimeout time.Duration `yaml:"session_timeout"` // a member silent for this long loses its partitions
	RevokeTimeout  time.Duration `yaml:"revoke_timeout"`  // for handing partitions over in a rebalance; then they go all the same

	FetchMaxWait         time.Duration `yaml:"fetch_max_wait"`         // the broker answers after this even if nothing is new
	FetchMaxBytes        int           `yaml:"fetch_max_bytes"`        // of one answer, compressed
	PartitionFetchBytes  int           `yaml:"partition_fetch_bytes"`  // of one partition in an answer, compressed
	PartitionBufferBytes int           `yaml:"partition_buffer_bytes"` // decoded and not yet polled; beyond it the partition is not fetched
	ReaderBufferBytes    int           `yaml:"reader_buffer_bytes"`    // the same for all partitions of a Reader
	MaxDecompressedBytes int           `yaml:"max_decompressed_bytes"` // of one batch; beyond it the partition stops with ErrTooLarge
	ProducerBufferBytes  int           `yaml:"producer_buffer_bytes"`  // not yet acknowledged; beyond it Produce waits
}

// TLS is the transport security of the brokers' connections.
type TLS struct {
	Enabled    bool   `yaml:"enabled"`
	CAFile     string `yaml:"ca_file"`   // PEM; left out: the system's authorities
	CertFile   string `yaml:"cert_file"` // PEM, with KeyFile: who we are
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"` // the name in the brokers' certificate, where it is not their host
}

// SASL says how to authenticate. The password is read from its file for each new connection, so it can be changed while running.
type SASL struct {
	Mechanism    string `yaml:"mechanism"` // "", plain, scram-sha-256 or scram-sha-512
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

// Default returns the settings of everything but the brokers.
func Default() Config {
	return Config{
		Group:                "freshet",
		ClientID:             "freshet",
		Protocol:             Classic,
		SessionTimeout:       45 * time.Second,
		RevokeTimeout:        20 * time.Second,
		FetchMaxWait:         250 * time.Millisecond,
		FetchMaxBytes:        16 << 20,
		PartitionFetchBytes:  1 << 20,
		PartitionBufferBytes: 8 << 20,
		ReaderBufferBytes:    64 << 20,
		MaxDecompressedBytes: 64 << 20,
		ProducerBufferBytes:  64 << 20,
	}
}

// Validate reports all problems of c at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka."+format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: none given; write the host:port of at least one, such as [\"127.0.0.1:9092\"]")
	}
	for _, b := range c.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			bad("brokers: %q is not host:port", b)
		}
	}
	if c.Group == "" {
		bad("group: empty; all instances of one service share one name")
	}
	if c.Protocol != Classic && c.Protocol != Consumer {
		bad("protocol: %q is neither %q nor %q", c.Protocol, Classic, Consumer)
	}
	c.TLS.validate(bad)
	c.SASL.validate(bad)
	for _, d := range []struct {
		name   string
		got    time.Duration
		lo, hi time.Duration
	}{
		{"session_timeout", c.SessionTimeout, time.Second, 30 * time.Minute},
		{"revoke_timeout", c.RevokeTimeout, 100 * time.Millisecond, 10 * time.Minute},
		{"fetch_max_wait", c.FetchMaxWait, time.Millisecond, 10 * time.Second},
	} {
		if d.got < d.lo || d.got > d.hi {
			bad("%s: %s is not between %s and %s", d.name, d.got, d.lo, d.hi)
		}
	}
	for _, n := range []struct {
		name        string
		got, lo, hi int
	}{
		{"fetch_max_bytes", c.FetchMaxBytes, 64 << 10, 64 << 20},
		{"partition_fetch_bytes", c.PartitionFetchBytes, 1 << 10, 64 << 20},
		{"partition_buffer_bytes", c.PartitionBufferBytes, 1 << 10, 1 << 30},
		{"reader_buffer_bytes", c.ReaderBufferBytes, 1 << 20, 16 << 30},
		{"max_decompressed_bytes", c.MaxDecompressedBytes, 1 << 20, 1 << 30},
		{"producer_buffer_bytes", c.ProducerBufferBytes, 1 << 20, 4 << 30},
	} {
		if n.got < n.lo || n.got > n.hi {
			bad("%s: %d is not between %d and %d bytes", n.name, n.got, n.lo, n.hi)
		}
	}
	return errors.Join(errs...)
}

func (t TLS) validate(bad func(string, ...any)) {
	if !t.Enabled {
		if t != (TLS{}) {
			bad("tls: set but not enabled; add `enabled: true`")
		}
		return
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		bad("tls: cert_file and key_file go together")
	}
	if _, err := t.config(); err != nil {
		bad("tls: %w", err)
	}
}

func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" && t.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func (s SASL) validate(bad func(string, ...any)) {
	switch s.Mechanism {
	case "":
		if s != (SASL{}) {
			bad("sasl.mechanism: missing; one of plain, scram-sha-256, scram-sha-512")
		}
		return
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		bad("sasl.mechanism: %q is none of plain, scram-sha-256, scram-sha-512", s.Mechanism)
	}
	if s.Username == "" {
		bad("sasl.username: missing")
	}
	if _, err := s.password(); err != nil {
		bad("sasl.%w", err)
	}
}

func (s SASL) password() (string, error) {
	if s.PasswordFile == "" {
		return "", errors.New("password_file: missing; passwords are read from files only")
	}
	b, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (s SASL) mechanism() sasl.Mechanism {
	if s.Mechanism == "plain" {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := s.password()
			return plain.Auth{User: s.Username, Pass: pass}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		pass, err := s.password()
		return scram.Auth{User: s.Username, Pass: pass}, err
	}
	if s.Mechanism == "scram-sha-256" {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

// client returns a client of the cluster. It connects when it is first used.
func (c Config) client(log *slog.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	base := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.MaxDecompressBatchBytes(c.MaxDecompressedBytes),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger{log}),
	}
	if c.TLS.Enabled {
		conf, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		base = append(base, kgo.DialTLSConfig(conf))
	}
	if c.SASL.Mechanism != "" {
		base = append(base, kgo.SASL(c.SASL.mechanism()))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make kafka client: %w", err)
	}
	return cl, nil
}

// logger gives the client's warnings and errors to slog. The rest is for people who debug the client.
type logger struct{ log *slog.Logger }

func (logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l logger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Warn("kafka client: "+msg, keyvals...)
}
