package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Config says how to reach Redis and how to write to it.
type Config struct {
	Addr         string   `yaml:"addr"`          // host:port, or the path of a Unix socket
	Addrs        []string `yaml:"addrs"`         // some nodes of a cluster, instead of addr
	Cluster      bool     `yaml:"cluster"`       // Redis Cluster: the slots' owners are asked for and followed
	DB           int      `yaml:"db"`            // a cluster has only 0
	Username     string   `yaml:"username"`      // empty: the default user
	Password     string   `yaml:"password"`      // better: password_file
	PasswordFile string   `yaml:"password_file"` // read again for each new connection, so it may be changed while running
	TLS          TLS      `yaml:"tls"`

	Prefix        string `yaml:"prefix"`         // of every key
	AllowEviction bool   `yaml:"allow_eviction"` // take a server that may evict features when its memory is full

	PipelineRows   int           `yaml:"pipeline_rows"`   // the most rows sent before the answers are awaited; Write sends more in turns
	DialTimeout    time.Duration `yaml:"dial_timeout"`    // for a connection, TLS and AUTH included
	Timeout        time.Duration `yaml:"timeout"`         // for the answers to a pipeline to begin, and for sending one
	MaxConnections int           `yaml:"max_connections"` // per node; more callers wait for at most Timeout
}

// TLS is the transport security of the connections.
type TLS struct {
	Enabled    bool   `yaml:"enabled"`
	CAFile     string `yaml:"ca_file"`   // PEM; left out: the system's authorities
	CertFile   string `yaml:"cert_file"` // PEM, with KeyFile: who we are
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"` // the name in the server's certificate, where it is not its host
}

// Default returns the settings of everything but the address.
func Default() Config {
	return Config{
		Prefix:         "features",
		PipelineRows:   1024,
		DialTimeout:    2 * time.Second,
		Timeout:        5 * time.Second,
		MaxConnections: 64,
	}
}

// Validate reports all problems of c at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redis."+format, args...)) }
	switch {
	case c.Addr == "" && len(c.Addrs) == 0:
		bad("addr: not given; write the server's host:port, such as \"127.0.0.1:6379\"")
	case c.Addr != "" && len(c.Addrs) > 0:
		bad("addrs: give either addr or addrs, not both")
	case len(c.Addrs) > 1 && !c.Cluster:
		bad("addrs: several nodes without `cluster: true`; a single server has one addr")
	}
	for _, a := range c.addrs() {
		if _, port, err := net.SplitHostPort(a); !isSocket(a) && (err != nil || port == "") {
			bad("addr: %q is not host:port", a)
		}
	}
	if c.DB < 0 || c.DB > 0 && c.Cluster {
		bad("db: %d; it is 0 or more, and 0 on a cluster", c.DB)
	}
	if c.Password != "" && c.PasswordFile != "" {
		bad("password_file: give either password or password_file, not both")
	}
	if c.Username != "" && c.Password == "" && c.PasswordFile == "" {
		bad("username: %q has no password; add password_file", c.Username)
	}
	if c.Prefix == "" || strings.ContainsAny(c.Prefix, "{} \t\r\n") {
		bad("prefix: %q is empty or has a brace or a space", c.Prefix)
	}
	if c.PipelineRows < 1 || c.PipelineRows > 65536 {
		bad("pipeline_rows: %d is not between 1 and 65536", c.PipelineRows)
	}
	if c.MaxConnections < 1 || c.MaxConnections > 10_000 {
		bad("max_connections: %d is not between 1 and 10000", c.MaxConnections)
	}
	for _, d := range []struct {
		name string
		got  time.Duration
	}{{"dial_timeout", c.DialTimeout}, {"timeout", c.Timeout}} {
		if d.got < 10*time.Millisecond || d.got > 10*time.Minute {
			bad("%s: %s is not between 10ms and 10m", d.name, d.got)
		}
	}
	c.TLS.validate(bad)
	return errors.Join(errs...)
}

func (t TLS) validate(bad func(string, ...any)) {
	if !t.Enabled && t != (TLS{}) {
		bad("tls: set but not enabled; add `enabled: true`")
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		bad("tls: cert_file and key_file belong together")
	}
}

func (c Config) addrs() []string {
	if c.Addr != "" {
		return []string{c.Addr}
	}
	return c.Addrs
}

func isSocket(addr string) bool { return strings.HasPrefix(addr, "/") }

// credentials is asked for each new connection.
func (c Config) credentials() (username, password string, err error) {
	if c.PasswordFile == "" {
		return c.Username, c.Password, nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", "", fmt.Errorf("redis.password_file: %w", err)
	}
	return c.Username, strings.TrimRight(string(b), "\r\n"), nil
}

// config returns nil where TLS is off.
func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis.tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
