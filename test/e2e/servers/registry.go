//go:build unix

package servers

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const apicurioVersion = "3.3.3"

// Registry is a real schema registry with Confluent's REST API: Apicurio Registry.
type Registry struct {
	URL string // of the API's root, as clients want it

	p *process
}

// NewRegistry starts a registry that keeps its schemas in a topic of kafka, or in memory where kafka is nil.
func NewRegistry(t testing.TB, kafka *Kafka) *Registry {
	t.Helper()
	javaPath, err := java(21)
	if err != nil {
		missing(t, "Apicurio Registry "+apicurioVersion, err)
	}
	app, err := apicurio()
	if err != nil {
		missing(t, "Apicurio Registry "+apicurioVersion, err)
	}
	ports := freePorts(t, 2)
	r := &Registry{URL: fmt.Sprintf("http://127.0.0.1:%d/apis/ccompat/v7", ports[0])}
	r.p = &process{t: t, name: "Apicurio Registry", path: javaPath, dir: t.TempDir(), quit: syscall.SIGTERM, ready: r.answers}
	r.p.args = []string{"-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", filepath.Join(app, "quarkus-run.jar")}
	r.p.env = []string{
		"QUARKUS_HTTP_HOST=127.0.0.1", fmt.Sprintf("QUARKUS_HTTP_PORT=%d", ports[0]),
		"QUARKUS_MANAGEMENT_HOST=127.0.0.1", fmt.Sprintf("QUARKUS_MANAGEMENT_PORT=%d", ports[1]), // else it listens on every address
		"APICURIO_CCOMPAT_LEGACY_ID_MODE_ENABLED=false",
	}
	if kafka != nil {
		r.p.env = append(r.p.env, "APICURIO_STORAGE_KIND=kafkasql", "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS="+strings.Join(kafka.Brokers, ","),
			"APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT=100") // with the default of 5 s it starts 20 s later
	}
	launch(t, r.p)
	return r
}

func apicurio() (string, error) {
	return cached("apicurio-"+apicurioVersion, func(dir string) error {
		err := maven(dir, "dependency:copy", "-Dartifact=io.apicurio:apicurio-registry-app:"+apicurioVersion+":tar.gz:all", "-DoutputDirectory="+dir)
		if err != nil {
			return err
		}
		return run(dir, "tar", "xzf", fmt.Sprintf("apicurio-registry-app-%s-all.tar.gz", apicurioVersion))
	})
}

func (r *Registry) answers() error {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(r.URL + "/subjects")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	return nil
}

// Kill ends it at once, as kill -9 does.
func (r *Registry) Kill() { r.p.end(syscall.SIGKILL) }

// Restart starts it again on the same port; one that runs is stopped first. Without Kafka it has forgotten its schemas.
func (r *Registry) Restart() {
	r.p.t.Helper()
	r.p.restart()
}
