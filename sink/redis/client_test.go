package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func TestCheck(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		info, problems, err := c.Check(t.Context())
		if err != nil || len(problems) > 0 || len(info) != 1 || !strings.HasPrefix(info[0], s.addr+": ") {
			t.Fatalf("%q, %q, %v", info, problems, err)
		}
		if keys := c.rdb.Keys(t.Context(), "*").Val(); len(keys) > 0 {
			t.Errorf("Check leaves %q", keys)
		}
		ids, err := c.RunIDs(t.Context())
		if _, ok := ids[s.addr]; err != nil || len(ids) != 1 || !ok {
			t.Errorf("run ids are %q, %v", ids, err)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if s.mini != nil {
			return
		}
		if !strings.Contains(info[0], ": redis 7.") && !strings.Contains(info[0], ": valkey ") || !strings.Contains(info[0], "standalone, master") || !strings.Contains(info[0], "of no limit, maxmemory-policy noeviction") {
			t.Errorf("info is %q", info)
		}
		if err := c.rdb.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
			t.Fatal(err)
		}
		if _, problems, err = c.Check(t.Context()); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "noeviction") {
			t.Errorf("with allkeys-lru: %q, %v", problems, err)
		}
		if _, problems, err = open(t, s, func(cfg *Config) { cfg.AllowEviction = true }).Check(t.Context()); err != nil || len(problems) > 0 {
			t.Errorf("with allow_eviction: %q, %v", problems, err)
		}
		if _, _, err = open(t, s, func(cfg *Config) { cfg.Cluster = true }).Check(t.Context()); err == nil {
			t.Error("a single server passes as a cluster")
		}
	})
	if _, _, err := open(t, &server{addr: "127.0.0.1:1"}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without a server: %v", err)
	}
}

// What other versions of the server would tell.
func TestJudge(t *testing.T) {
	c := &Client{}
	for _, k := range []struct{ info, problem string }{
		{"redis_version:7.0.0\r\nmaxmemory_policy:noeviction\r\n", ""},
		{"redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nserver_mode:standalone\r\nmaxmemory_policy:noeviction\r\n", ""},
		{"redis_version:10.1\r\nmaxmemory_policy:noeviction\r\n", ""},
		{"redis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n", "older than 7.0"},
		{"redis_version:7.4.0\r\nmaxmemory_policy:volatile-ttl\r\n", "volatile-ttl"},
		{"redis_version:7.4.0\r\nmaxmemory_policy:noeviction\r\nloading:1\r\n", "loading"},
		{"redis_version:7.4.0\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:1\r\n", "redis.cluster: true"},
	} {
		info, problems := c.judge(parseInfo("# Server\r\n" + k.info))
		all := strings.Join(problems, "\n")
		if len(info) == 0 || (k.problem == "") != (all == "") || !strings.Contains(all, k.problem) {
			t.Errorf("%q gives %q, want %q", k.info, all, k.problem)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Default()
	good.Addr = "127.0.0.1:6379"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(c *Config) { c.Addr = "" }, []string{"redis.addr: not given"}},
		{func(c *Config) { c.Addr = "localhost" }, []string{`"localhost" is not host:port`}},
		{func(c *Config) { c.Addr = "/run/redis.sock" }, nil},
		{func(c *Config) { c.Addrs = []string{"a:1"} }, []string{"not both"}},
		{func(c *Config) { c.Addr, c.Addrs = "", []string{"a:1", "b:2"} }, []string{"cluster: true"}},
		{func(c *Config) { c.Addr, c.Addrs, c.Cluster = "", []string{"a:1", "b:2"}, true }, nil},
		{func(c *Config) { c.Cluster, c.DB = true, 1 }, []string{"redis.db: 1"}},
		{func(c *Config) { c.Username = "u" }, []string{"password_file"}},
		{func(c *Config) { c.Password, c.PasswordFile = "p", "f" }, []string{"not both"}},
		{func(c *Config) {
			c.Prefix, c.PipelineRows, c.MaxConnections, c.Timeout, c.DialTimeout = "a{b", 0, 0, 0, time.Hour
		}, []string{
			"redis.prefix", "redis.pipeline_rows", "redis.max_connections", "redis.timeout: 0s", "redis.dial_timeout: 1h0m0s"}},
		{func(c *Config) { c.TLS.CAFile = "x" }, []string{"enabled: true"}},
		{func(c *Config) { c.TLS = TLS{Enabled: true, CertFile: "x"} }, []string{"belong together"}},
	} {
		cfg := good
		k.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (len(k.want) == 0) {
			t.Errorf("%+v: %v", cfg, err)
		}
		for _, w := range k.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("the error is %q, want %q in it", err, w)
			}
		}
		if c, openErr := Open(cfg, slog.New(slog.DiscardHandler), nil); (openErr == nil) != (err == nil) {
			t.Errorf("Open gives %v, Validate %v", openErr, err)
		} else if c != nil {
			c.Close()
		}
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tls := range []TLS{{Enabled: true, CAFile: file}, {Enabled: true, CAFile: file + "x"}, {Enabled: true, CertFile: file, KeyFile: file}} {
		cfg := good
		cfg.TLS = tls
		if _, err := Open(cfg, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "redis.tls.") {
			t.Errorf("%+v: %v", tls, err)
		}
	}
}

// certificate makes a self-signed certificate for 127.0.0.1 and writes it, and its key, as PEM.
func certificate(t *testing.T) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

func TestTLS(t *testing.T) {
	cert, certFile, keyFile := certificate(t)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	m := miniredis.NewMiniRedis()
	if err := m.StartTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := &server{addr: m.Addr(), mini: m}
	both := TLS{Enabled: true, CAFile: certFile, CertFile: certFile, KeyFile: keyFile}
	if err := tryOne(t, open(t, s, func(cfg *Config) { cfg.TLS = both }), 1); err != nil {
		t.Error(err)
	}
	otherName, noClient, noCA := both, both, both
	otherName.ServerName = "redis.example.com"
	noClient.CertFile, noClient.KeyFile = "", ""
	noCA.CAFile = ""
	for _, bad := range []TLS{otherName, noClient, noCA, {}} {
		if err := tryOne(t, open(t, s, func(cfg *Config) { cfg.TLS, cfg.Timeout = bad, time.Second }), 1); err == nil {
			t.Errorf("%+v connects", bad)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	startRedis(t, "--unixsocket", path)
	c := open(t, &server{addr: path})
	write(t, c.Writer(purchases, 3), []Outcome{Written}, purchase("42", 1))
	if _, problems, err := c.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		write(t, open(t, s, func(cfg *Config) { cfg.DB = 2; cfg.Prefix = "f:x" }).Writer(purchases, 3), []Outcome{Written}, purchase("42", 1))
		for db, want := range []int{0, 0, 14} {
			m := hash(t, open(t, s, func(cfg *Config) { cfg.DB = db }), "f:x:user_purchases:v1:42")
			if want == 14 {
				want = len(purchases.Features) + len(metaFields)
			}
			if len(m) != want {
				t.Errorf("database %d holds %d fields, want %d", db, len(m), want)
			}
		}
		if err := tryOne(t, open(t, s, func(cfg *Config) { cfg.DB = 99_999 }), 1); s.cmd != nil && (err == nil || !strings.Contains(err.Error(), "redis.db")) {
			t.Error(fmt.Errorf("database 99999: %w", err))
		}
	})
}

func TestVersionsOfAGroup(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s, func(cfg *Config) { cfg.Prefix = "f*" })
		for _, told := range []struct {
			group   string
			version int
		}{{"g", 10}, {"g", 2}, {"g", 2}, {"g2", 7}, {"gg", 3}} {
			spec := purchases
			spec.Group, spec.Version = told.group, told.version
			for partition := range int32(3) {
				if err := c.Writer(spec, partition).WriteProgress(t.Context(), Progress{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		other := open(t, s, func(cfg *Config) { cfg.Prefix = "fx" }) // which the other prefix would match as a pattern
		spec := purchases
		spec.Group, spec.Version = "g", 5
		if err := other.Writer(spec, 0).WriteProgress(t.Context(), Progress{}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Versions(t.Context(), "g"); err != nil || !slices.Equal(got, []int{2, 10}) {
			t.Errorf("the versions are %v, %v", got, err)
		}
		if got, err := c.Versions(t.Context(), "nobody"); err != nil || len(got) > 0 {
			t.Errorf("the versions are %v, %v", got, err)
		}
	})
}
