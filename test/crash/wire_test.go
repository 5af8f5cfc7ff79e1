package crash

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
)

// proxy stands between one life and the online store. Each life has its own, and loses it with its power.
type proxy struct {
	to       string
	listener net.Listener
	watch    func(event wireEvent) bool // true: the connection is lost here

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu; nil once cut
	wg    sync.WaitGroup
}

// wireEvent is something on the way to or from the online store.
type wireEvent string

// What a proxy sees.
const (
	pipelineComes   wireEvent = "a pipeline comes"          // nothing of it has been passed on
	pipelineHalf    wireEvent = "half of a pipeline"        // has been passed on
	pipelineAnswers wireEvent = "a pipeline's answer"       // is not passed back yet
	progressComes   wireEvent = "progress comes"            // the progress hash is about to be written
	progressDone    wireEvent = "progress has been written" // and not acknowledged
)

func newProxy(to string, watch func(wireEvent) bool) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{to: to, listener: l, watch: watch, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept) // ended by cut
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			return
		}
		if !p.add(client, server) {
			client.Close()
			server.Close()
			return
		}
		w := &wire{p: p, client: client, server: server}
		p.wg.Go(w.there)
		p.wg.Go(w.back)
	}
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

// cut ends all connections and takes no new ones.
func (p *proxy) cut() {
	p.listener.Close()
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// wire is one connection through a proxy.
type wire struct {
	p              *proxy
	client, server net.Conn

	mu      sync.Mutex
	waiting wireEvent // what the next answer is to; guarded by mu
}

func (w *wire) close() {
	w.client.Close()
	w.server.Close()
}

func (w *wire) there() {
	defer w.close()
	buf := make([]byte, 256<<10)
	for {
		n, err := w.client.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		if script := bytes.Contains(b, []byte("evalsha")); script {
			comes, answers := pipelineComes, pipelineAnswers
			if bytes.Contains(b, []byte("_progress:")) {
				comes, answers = progressComes, progressDone
			}
			if w.p.watch(comes) {
				return
			}
			w.mu.Lock()
			w.waiting = answers
			w.mu.Unlock()
			if comes == pipelineComes {
				if _, err := w.server.Write(b[:n/2]); err != nil || w.p.watch(pipelineHalf) {
					return
				}
				b = b[n/2:]
			}
		}
		if _, err := w.server.Write(b); err != nil {
			return
		}
	}
}

func (w *wire) back() {
	defer w.close()
	buf := make([]byte, 256<<10)
	for {
		n, err := w.server.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		answer := w.waiting
		w.waiting = ""
		w.mu.Unlock()
		if answer != "" && w.p.watch(answer) {
			return
		}
		if _, err := w.client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// exchange is the broker's side of the network: it knows each connection's client id, and cuts off those that are dead.
type exchange struct {
	mu      sync.Mutex
	dead    map[string]bool                     // client ids; guarded by mu
	conns   map[*brokerConn]bool                // guarded by mu
	refuses func(client string, key int16) bool // whether a request of this client is not to arrive; its connection ends
}

func newExchange(refuses func(string, int16) bool) *exchange {
	return &exchange{dead: map[string]bool{}, conns: map[*brokerConn]bool{}, refuses: refuses}
}

func (x *exchange) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return exchangeListener{l, x}, err
}

type exchangeListener struct {
	net.Listener
	x *exchange
}

// Accept implements net.Listener.
func (l exchangeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b := &brokerConn{Conn: c, x: l.x}
	l.x.mu.Lock()
	l.x.conns[b] = true
	l.x.mu.Unlock()
	return b, nil
}

// cut ends the connections of a client, and all that it makes later.
func (x *exchange) cut(client string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dead[client] = true
	for c := range x.conns {
		if c.client == client {
			c.Conn.Close()
		}
	}
}

// brokerConn reads along as a client's requests come in: 4 bytes length, 2 key, 2 version, 4 correlation id, 2 length of the client id, the id.
type brokerConn struct {
	net.Conn
	x      *exchange
	client string // guarded by x.mu
	head   []byte // of the request that is coming in
	left   int    // bytes of it behind the head
}

const requestHead = 14

// Read implements net.Conn.
func (c *brokerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for in := b[:n]; len(in) > 0; {
		if c.left > 0 {
			k := min(c.left, len(in))
			in, c.left = in[k:], c.left-k
			continue
		}
		want := requestHead
		if len(c.head) >= requestHead {
			want += max(0, int(int16(binary.BigEndian.Uint16(c.head[12:]))))
		}
		if len(c.head) < want {
			k := min(want-len(c.head), len(in))
			c.head, in = append(c.head, in[:k]...), in[k:]
			if len(c.head) < want || want == requestHead {
				continue
			}
		}
		if !c.request() {
			c.Conn.Close()
			return 0, net.ErrClosed
		}
		c.left = int(binary.BigEndian.Uint32(c.head)) + 4 - len(c.head)
		c.head = c.head[:0]
	}
	return n, err
}

// request reports whether the request in head may arrive.
func (c *brokerConn) request() bool {
	client, key := string(c.head[requestHead:]), int16(binary.BigEndian.Uint16(c.head[4:]))
	c.x.mu.Lock()
	c.client = client
	dead := c.x.dead[client]
	c.x.mu.Unlock()
	return !dead && !c.x.refuses(client, key)
}

// Close implements net.Conn.
func (c *brokerConn) Close() error {
	c.x.mu.Lock()
	delete(c.x.conns, c)
	c.x.mu.Unlock()
	return c.Conn.Close()
}
