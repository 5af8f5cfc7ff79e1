package embedded

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

const maxRegistrationBytes = 4 << 20

// registry is the fake registry with a memory: each schema that is registered goes to a file, one JSON object a line, and the file is
// registered again, in its order, at the next start. Ids are given out in order, so they come out the same.
type registry struct {
	fake *srfake.Registry
	mu   sync.Mutex // one registration at a time, so that the file is in the order of the ids
	file *os.File
}

type registration struct {
	Subject string    `json:"subject"`
	ID      int       `json:"id"`
	Schema  sr.Schema `json:"schema"`
}

func openRegistry(path string) (*registry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	r := &registry{fake: srfake.NewRegistry(), file: f}
	if err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return r, nil
}

func (r *registry) load() error {
	in := bufio.NewReader(r.file)
	for good := int64(0); ; {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// A line without its end was never acknowledged: the process died writing it.
			return r.file.Truncate(good)
		}
		if err != nil {
			return err
		}
		good += int64(len(line))
		var reg registration
		if err := json.Unmarshal(line, &reg); err != nil {
			return err
		}
		id, _, err := r.fake.RegisterSchema(reg.Subject, reg.Schema)
		if err != nil {
			return fmt.Errorf("register schema %d of %s again: %w", reg.ID, reg.Subject, err)
		}
		if id != reg.ID {
			return fmt.Errorf("schema %d of %s became %d: the file was changed; restore it, or begin with an empty directory", reg.ID, reg.Subject, id)
		}
	}
}

// ServeHTTP implements http.Handler.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	subject, ok := strings.CutPrefix(req.URL.Path, "/subjects/")
	subject, versions := strings.CutSuffix(subject, "/versions")
	if req.Method != http.MethodPost || !ok || !versions {
		r.fake.Handler().ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxRegistrationBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := httptest.NewRecorder() // so that nothing is acknowledged before it is kept
	r.fake.Handler().ServeHTTP(answer, req)
	if answer.Code == http.StatusOK {
		if err := r.keep(subject, body, answer.Body.Bytes()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // a client that went away is its own affair
}

func (r *registry) keep(subject string, request, answer []byte) error {
	reg := registration{Subject: subject}
	if err := json.Unmarshal(request, &reg.Schema); err != nil {
		return err
	}
	var given struct {
		ID int `json:"id"`
	}
	if err := json.Unmarshal(answer, &given); err != nil {
		return err
	}
	reg.ID = given.ID
	line, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}
