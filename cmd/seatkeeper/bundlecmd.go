package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// maxProfileTime is what a node takes, and what a person waits for.
	maxProfileTime = 60 * time.Second
	// collectBound is what any part may take beside its profile's time.
	collectBound = 15 * time.Second
	// bundleLogLines of each node's newest log.
	bundleLogLines = 10_000
)

func (a *app) debugBundleCommand() *cobra.Command {
	var output string
	var only []string
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Collect what support needs into one file, without secrets",
		Long: `Writes one .tar.gz with a manifest and checksums: doctor's findings, status, members, and
of each node its settings without secrets, metrics (twice), recent log, profiles
(goroutines, heap, CPU), raft's numbers; facts of this host. What cannot be had is named
in the manifest. No token, key, session secret or licence signing key is in it; names of
users and hosts may be, in the log. Wants an operator's token where the cluster has tokens.`,
		Args:        cobra.NoArgs,
		Annotations: noSettings(), // the nodes may be what is wrong, and the config too
		RunE: func(cmd *cobra.Command, _ []string) error {
			if slices.Contains(formats, output) {
				return usagef("--output names the file here: -o seatkeeper-debug.tar.gz")
			}
			if duration < time.Second || duration > maxProfileTime {
				return usagef("--duration %s: use 1s to %s", duration, maxProfileTime)
			}
			if output == "" {
				output = "seatkeeper-debug-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
			defer stop()
			return a.writeBundle(ctx, output, only, duration)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "", "file to write, readable by its owner only (default seatkeeper-debug-TIME.tar.gz)")
	f.StringSliceVar(&only, "node", nil, "names or ids of the nodes to ask (default: all that answer)")
	f.DurationVar(&duration, "duration", 5*time.Second, "how long the CPU profiles take, at most 1m")
	return cmd
}

func (a *app) writeBundle(ctx context.Context, output string, only []string, duration time.Duration) error {
	d, err := a.newDoctor(nil)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return exitf(exitError1, "%s: %s: choose another name with --output", output, fileMessage(err))
	}
	b := newBundle()
	fmt.Fprintln(a.stderr, "looking at the cluster …")
	b.addJSON("doctor.json", d.examine(ctx))
	b.addJSON("host.json", hostFacts())
	if a.cfg != nil {
		b.addJSON("settings.json", a.cfg.settings())
	}
	nodes, unknown := chosen(d.nodes(), only)
	for _, name := range unknown {
		b.missing("nodes/"+name, errNotAsked)
	}
	fmt.Fprintf(a.stderr, "collecting from %d nodes for %s …\n", len(nodes), duration)
	names := d.collect(ctx, b, nodes, duration)
	folder := strings.TrimSuffix(filepath.Base(output), ".tar.gz")
	err = errors.Join(ctx.Err(), b.write(f, folder, names, time.Now()), f.Close())
	if err != nil {
		_ = os.Remove(output)
		return err
	}
	fmt.Fprintf(a.stdout, "%s: %d files of %d nodes, %d parts missing; look into it before you send it\n", output, len(b.files), len(nodes), len(b.errors))
	switch {
	case len(unknown) > 0:
		return exitf(exitUnreachable, "--node %s: %w", strings.Join(unknown, ", "), errNotAsked)
	case len(nodes) == 0:
		return exitf(exitUnreachable, "no node could be asked: %s holds what could be seen from here", output)
	}
	return nil
}

// collect asks the cluster and these nodes, all at once, and returns the nodes' ids.
func (d *doctor) collect(ctx context.Context, b *bundle, nodes []*visit, duration time.Duration) (ids []string) {
	var wg sync.WaitGroup
	wg.Go(func() { d.collectCluster(ctx, b) })
	for _, v := range nodes {
		ids = append(ids, v.who.Id)
		wg.Go(func() { collectNode(ctx, b, v, duration) })
	}
	wg.Wait()
	return ids
}

var errNotAsked = errors.New("it does not answer, or there is no such node (seatkeeper members lists them)")

// chosen are the nodes that were named, or all, and the names that no node has which answered.
func chosen(nodes []*visit, only []string) (list []*visit, unknown []string) {
	if len(only) == 0 {
		return nodes, nil
	}
	for _, name := range only {
		i := slices.IndexFunc(nodes, func(v *visit) bool { return v.who.Name == name || v.who.Id == name })
		switch {
		case i < 0:
			unknown = append(unknown, name)
		case !slices.Contains(list, nodes[i]):
			list = append(list, nodes[i])
		}
	}
	return list, unknown
}

// collectCluster is what any node knows of all.
func (d *doctor) collectCluster(ctx context.Context, b *bundle) {
	c, err := dialCluster(d.client, collectBound)
	if err != nil {
		b.missing("status.json", err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	if st, err := c.cluster.Status(ctx, &pb.StatusRequest{Tenant: d.client.Tenant, Stale: true}); err != nil {
		b.missing("status.json", err)
	} else {
		b.addJSON("status.json", st)
	}
	if peers, err := c.cluster.StatusPeers(ctx, &pb.StatusPeersRequest{}); err != nil {
		b.missing("members.json", err)
	} else {
		b.addJSON("members.json", peers)
	}
	if list, err := c.cluster.LicenseList(ctx, &pb.LicenseListRequest{Tenant: d.client.Tenant}); err != nil {
		b.missing("licenses.json", err)
	} else {
		b.addJSON("licenses.json", list)
	}
}

// collectNode asks one node for its parts, one after the other but for the CPU profile.
func collectNode(ctx context.Context, b *bundle, v *visit, duration time.Duration) {
	folder := "nodes/" + v.who.Id + "/"
	b.addJSON(folder+"examined.json", v.who)
	link, err := linkNode(v.client, v.given)
	if err != nil {
		b.missing(folder, err)
		return
	}
	defer link.close()
	api := pb.NewDiagnosisClient(link.cc)
	part := func(file, name string, seconds time.Duration) {
		data, err := collectPart(link.with(ctx), api, name, seconds)
		if err != nil {
			b.missing(folder+file, errors.New(linkError(err).Error()))
			return
		}
		b.add(folder+file, data)
	}
	part("metrics-begin.txt", "metrics", 0)
	var profile sync.WaitGroup
	profile.Go(func() { part("cpu.pb.gz", "cpu", duration) })
	for _, p := range []struct{ file, name string }{{"goroutines.txt", "goroutines"}, {"heap.pb.gz", "heap"}, {"mutex.pb.gz", "mutex"},
		{"settings.json", "settings"}, {"raft.json", "raft"}} {
		part(p.file, p.name, 0)
	}
	log, err := recentLog(link.with(ctx), api)
	if err != nil {
		b.missing(folder+"log.txt", errors.New(linkError(err).Error()))
	} else {
		b.add(folder+"log.txt", log)
	}
	profile.Wait()
	part("metrics-end.txt", "metrics", 0)
}

func collectPart(ctx context.Context, api pb.DiagnosisClient, part string, seconds time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, collectBound+seconds)
	defer cancel()
	stream, err := api.Collect(ctx, &pb.CollectRequest{Part: part, Seconds: uint32(seconds.Round(time.Second) / time.Second)})
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return data.Bytes(), nil
		case err != nil:
			return nil, err
		case data.Len()+len(m.Data) > maxBundlePart:
			return nil, fmt.Errorf("more than %d bytes", maxBundlePart)
		}
		data.Write(m.Data)
	}
}

func recentLog(ctx context.Context, api pb.DiagnosisClient) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	stream, err := api.Monitor(ctx, &pb.MonitorRequest{Level: "trace", Recent: bundleLogLines})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return text.Bytes(), nil
		case err != nil:
			return nil, err
		}
		text.WriteString(m.Line + "\n")
	}
}

// hostFacts are of the host that the bundle is made on. Neither environment nor command
// lines of processes: people put secrets there.
func hostFacts() map[string]any {
	facts := map[string]any{"host": osHost(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(),
		"go": runtime.Version(), "version": buildVersion(), "time": time.Now().Format(time.RFC3339Nano)}
	for _, name := range []string{"/proc/version", "/proc/loadavg", "/proc/meminfo", "/proc/uptime", "/sys/devices/system/clocksource/clocksource0/current_clocksource", "/etc/os-release"} {
		if data, err := readLimited(name, maxStateBytes); err == nil {
			facts[name] = strings.Split(strings.TrimSpace(string(data)), "\n")
		}
	}
	t := cluster.TryDir(context.Background(), os.TempDir())
	facts["temp_dir"] = map[string]any{"free_bytes": t.Free, "total_bytes": t.Total}
	return facts
}
