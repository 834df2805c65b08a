//go:build nextversion

package rpc

import (
	"context"
	"fmt"
	"net/http"

	"github.com/seatkeeper/seatkeeper/fsm"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// handleNext adds POST /v1/note, for tests of an upgrade: it puts a command into the log that
// builds without the tag do not know. It asks for the role of a leadership transfer.
func (s *Server) handleNext(mux *http.ServeMux) {
	mux.Handle("/v1/note", withBearer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.operator.answer(r.Context(), pb.Cluster_TransferLeadership_FullMethodName, func(ctx context.Context) error {
			applied, err := s.cfg.Node.Propose(ctx, fsm.Note{Text: r.URL.Query().Get("text")})
			if err == nil {
				fmt.Fprintf(w, "{\"raft_index\":\"%d\"}\n", applied.Index)
			}
			return err
		})
		if err != nil {
			apiError(r.Context(), nil, nil, w, r, err)
		}
	})))
}
