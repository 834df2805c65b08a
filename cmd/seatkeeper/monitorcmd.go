package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (a *app) monitorCommand() *cobra.Command {
	var level, node string
	var recent uint32
	var follow bool
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Show a node's log, live",
		Long: `Shows the newest lines of one node's log and then those to come, until interrupted.
--level debug shows more than the node's own log (log.level) does; lines of the past are
those that the node logged itself. A reader that is too slow is cut, and told how many
lines it missed. Asks for an operator's token where the cluster has tokens.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(logLevels, level) {
				return usagef("--level %q: use one of %s", level, strings.Join(logLevels, ", "))
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
			defer stop()
			address, err := a.nodeNamed(ctx, node)
			if err != nil {
				return err
			}
			return a.monitor(ctx, address, &pb.MonitorRequest{Level: level, Recent: recent, Follow: follow})
		},
	}
	f := cmd.Flags()
	f.StringVar(&level, "level", "info", "least level shown: "+strings.Join(logLevels, ", "))
	f.StringVar(&node, "node", "", "name or id of the node (default: the first address)")
	f.Uint32Var(&recent, "recent", 20, "how many lines of the past come first (at most 10000)")
	f.BoolVar(&follow, "follow", true, "go on with the lines to come")
	return cmd
}

func (a *app) monitor(ctx context.Context, address string, r *pb.MonitorRequest) error {
	l, err := linkNode(a.cfg.Client, address)
	if err != nil {
		return err
	}
	defer l.close()
	stream, err := pb.NewDiagnosisClient(l.cc).Monitor(l.with(ctx), r)
	if err != nil {
		return linkError(err)
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil && status.Code(err) == codes.Canceled:
			return nil
		case err != nil:
			return linkError(err)
		case m.Dropped > 0:
			continue // the error after it says so
		}
		if err := a.printLogLine(m); err != nil {
			return err
		}
	}
}

func (a *app) printLogLine(m *pb.MonitorResponse) error {
	if a.cfg.Client.Format == "table" {
		// A line may go on over several, as stacks do.
		lines := strings.Split(strings.ReplaceAll(m.Line, "\t", "    "), "\n")
		for i := range lines {
			lines[i] = printable(lines[i])
		}
		_, err := fmt.Fprintln(a.stdout, strings.Join(lines, "\n"))
		return err
	}
	text, err := json.Marshal(struct {
		Line string `json:"line"`
	}{m.Line})
	if err == nil {
		_, err = fmt.Fprintln(a.stdout, string(text))
	}
	return err
}
