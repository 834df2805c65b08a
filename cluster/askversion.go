package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// What a build understands is asked on raft's port: with TLS both ends have shown there that
// they are nodes, and the server id that is meant is said first, as for raft itself. Gossip
// would be a hint, and the API would need a token.
//
//	> seatkeeper-version 1 SERVER-ID CLUSTER-ID LOG-VERSION
//	< {"id":"…","log_version":2,"build":"…"}
const (
	versionGreeting = "seatkeeper-version 1 "
	// maxSaid bounds the answer.
	maxSaid = 1 << 10
	// noCluster stands for the id of a cluster that has none yet.
	noCluster = "-"
)

// askVersion asks one server what its build understands, and tells it where the cluster stands.
func (a addressed) askVersion(ctx context.Context, id raft.ServerID, at raft.ServerAddress, c currentVersion) (said, error) {
	if c.ClusterID == "" {
		c.ClusterID = noCluster
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(versionTimeout)
	}
	conn, err := a.stream.open(string(at), fmt.Sprintf("%s%s %s %d\n", versionGreeting, id, c.ClusterID, c.LogVersion), time.Until(deadline))
	if err != nil {
		return said{}, shortly(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return said{}, err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxSaid)).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return said{}, errors.New("another server or an older build is there")
	}
	if err != nil {
		return said{}, shortly(err)
	}
	var answer said
	if err := json.Unmarshal(line, &answer); err != nil {
		return said{}, errors.New("its answer cannot be read")
	}
	return answer, nil
}

// shortly keeps of a network error what matters to a person.
func shortly(err error) error {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("it does not answer")
	case errors.As(err, &op) && op.Op == "dial":
		return errors.New("it is not reachable")
	}
	return err
}

// answer lets n answer questions from now on.
func (s *stream) answer(n *Node) { s.node.Store(n) }

// answerVersion answers a question that is meant for this server.
func (s *stream) answerVersion(conn net.Conn, question string) {
	var id string
	var c currentVersion
	if k, err := fmt.Sscanf(question, "%s %s %d", &id, &c.ClusterID, &c.LogVersion); err != nil || k != 3 {
		return
	}
	if id != s.id {
		s.refuse(id)
		return
	}
	n := s.node.Load()
	if n == nil {
		return // it has not started yet
	}
	text, err := json.Marshal(n.says())
	if err != nil {
		return
	}
	_, _ = conn.Write(append(text, '\n'))
	n.hear(c)
}
