//go:build unix

package servers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	kafkaVersion = "4.4.0"
	log4jVersion = "2.25.5" // the one kafka_2.13 brings; without its SLF4J binding the broker logs nothing
	kafkaCluster = "4L6g3nShT-eMCtK--X86sw"
)

// kafkaPOM names the jars of a broker. Nothing is compiled.
const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>freshet</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>` + log4jVersion + `</version></dependency>
  </dependencies>
</project>
`

const kafkaLog4j = `rootLogger.level = INFO
logger.config.name = org.apache.kafka.common.config
logger.config.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
`

// Kafka is a real Apache Kafka in KRaft mode: a cluster of nodes that are broker and controller in one.
type Kafka struct {
	Brokers []string // host:port of each node

	nodes []*process
}

// NewKafka starts a cluster of nodes. With three, topics are replicated on all and survive the loss of one. A property is a line of
// server.properties; it overrules our own.
func NewKafka(t testing.TB, nodes int, properties ...string) *Kafka {
	t.Helper()
	libs, err := kafkaJars()
	if err != nil {
		missing(t, "Apache Kafka "+kafkaVersion, err)
	}
	javaPath, err := java(17)
	if err != nil {
		missing(t, "Apache Kafka "+kafkaVersion, err)
	}
	ports := freePorts(t, 2*nodes)
	k := &Kafka{}
	c := kafkaConfig{java: javaPath, libs: libs, properties: properties}
	for i := range nodes {
		k.Brokers = append(k.Brokers, fmt.Sprintf("127.0.0.1:%d", ports[2*i]))
		c.brokers = k.Brokers
		c.controllers = append(c.controllers, fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]))
		c.voters = append(c.voters, fmt.Sprintf("%d@%s:AAAAAAAAAAAAAAAAAAAA%dA", i+1, c.controllers[i], i+1))
	}
	formats := make([]func() error, nodes) // side by side: each is a Java of its own
	for i := range nodes {
		p, format := c.node(t, i)
		k.nodes = append(k.nodes, p)
		formats[i] = format
	}
	for i, wait := range formats {
		if err := wait(); err != nil {
			t.Fatalf("format the storage of Kafka node %d: %v", i, err)
		}
	}
	launch(t, k.nodes...)
	return k
}

// Kill ends a node (from 0) at once, as kill -9 does.
func (k *Kafka) Kill(node int) { k.nodes[node].end(syscall.SIGKILL) }

// Restart starts a node again with its data; one that runs is stopped first. A node restarted after Kill first waits 3 s until the cluster
// has given up its former self.
func (k *Kafka) Restart(node int) {
	k.nodes[node].t.Helper()
	k.nodes[node].restart()
}

// Pause makes a node hang, until Resume.
func (k *Kafka) Pause(node int) { k.nodes[node].signal(syscall.SIGSTOP) }

// Resume lets a node go on.
func (k *Kafka) Resume(node int) { k.nodes[node].signal(syscall.SIGCONT) }

func kafkaJars() (string, error) {
	return cached("kafka-"+kafkaVersion, func(dir string) error {
		pom := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(pom, []byte(kafkaPOM), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "log4j2.properties"), []byte(kafkaLog4j), 0o644); err != nil {
			return err
		}
		return maven(dir, "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
}

// kafkaConfig is what the nodes of a cluster have in common.
type kafkaConfig struct {
	java, libs                   string
	brokers, controllers, voters []string
	properties                   []string
}

// command is a Java command line: little memory and a quick start, as nothing is to be timed here.
func (c *kafkaConfig) command(main ...string) []string {
	return append([]string{"-Xmx256m", "-Xss512k", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dlog4j2.configurationFile=" + filepath.Join(c.libs, "log4j2.properties"), "-cp", filepath.Join(c.libs, "*")}, main...)
}

// node prepares node i: its settings and its storage, whose formatting has begun and must be waited for.
func (c *kafkaConfig) node(t testing.TB, i int) (p *process, formatted func() error) {
	t.Helper()
	dir := t.TempDir()
	settings := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(settings, []byte(c.settings(i, dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	format := exec.Command(c.java, c.command("kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", settings,
		"--initial-controllers", strings.Join(c.voters, ","))...)
	format.Stdout, format.Stderr = &out, &out
	if err := format.Start(); err != nil {
		t.Fatal(err)
	}
	p = &process{t: t, name: fmt.Sprintf("Kafka node %d", i), path: c.java, args: c.command("kafka.Kafka", settings), dir: dir}
	p.quit = syscall.SIGKILL // its data goes with the test: no need to leave in good order
	p.ready = func() error {
		log, err := os.ReadFile(p.log())
		if err == nil && !bytes.Contains(log, []byte("Kafka Server started")) {
			err = errors.New("its log does not say that it has started")
		}
		return err
	}
	return p, func() error {
		if err := format.Wait(); err != nil {
			return fmt.Errorf("%w\n%s", err, lastLines(out.Bytes(), 20))
		}
		return nil
	}
}

func (c *kafkaConfig) settings(i int, dir string) string {
	replicas, inSync := 1, 1
	if len(c.brokers) >= 3 {
		replicas, inSync = 3, 2
	}
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%d
listeners=PLAINTEXT://%s,CONTROLLER://%s
advertised.listeners=PLAINTEXT://%[2]s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.bootstrap.servers=%[4]s
log.dirs=%[5]s
num.partitions=4
auto.create.topics.enable=false
default.replication.factor=%[6]d
min.insync.replicas=%[7]d
offsets.topic.replication.factor=%[6]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[6]d
transaction.state.log.min.isr=%[7]d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100
group.consumer.min.session.timeout.ms=1000
group.min.session.timeout.ms=1000
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=1000
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.threads=1
num.network.threads=2
num.io.threads=4
background.threads=2
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
`, i+1, c.brokers[i], c.controllers[i], strings.Join(c.controllers, ","), filepath.Join(dir, "data"), replicas, inSync) + strings.Join(c.properties, "\n")
}
