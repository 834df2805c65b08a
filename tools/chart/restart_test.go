package chart

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// stopTime is the longest that a node takes to stop, as its program says.
func stopTime(t *testing.T) time.Duration {
	t.Helper()
	source, err := os.ReadFile("../../cmd/seatkeeper/server.go")
	if err != nil {
		t.Fatal(err)
	}
	var sum time.Duration
	found := regexp.MustCompile(`(?m)^\t(?:transfer|drain|stop)Timeout\s+= (\d+) \* time\.Second`).FindAllSubmatch(source, -1)
	for _, m := range found {
		n, _ := strconv.Atoi(string(m[1]))
		sum += time.Duration(n) * time.Second
	}
	if len(found) != 3 {
		t.Fatalf("%d of the three bounds of a stop were found", len(found))
	}
	return sum
}

func TestChartKeepsAMajorityWhileItsPodsAreRestarted(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		r := mustRender(t, "nodes: "+strconv.Itoa(nodes))
		spec := r.set.Spec
		if int(*spec.Replicas) != nodes {
			t.Errorf("%d replicas, want %d", *spec.Replicas, nodes)
		}
		if down := r.budget.Spec.MaxUnavailable.IntValue(); down < 1 || down > (nodes-1)/2 {
			t.Errorf("%d nodes: %d may be drained at once", nodes, down)
		}
		// None is ready before a majority is there, so all must be started together; and they
		// must find each other before they are ready.
		if spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			t.Errorf("pods are started %s: the first would wait for ever for the others", spec.PodManagementPolicy)
		}
		headless := r.services[spec.ServiceName]
		if headless == nil || headless.Spec.ClusterIP != "None" || !headless.Spec.PublishNotReadyAddresses {
			t.Errorf("service %s: %v", spec.ServiceName, headless)
		}
		if s := r.services["seatkeeper"]; s == nil || s.Spec.PublishNotReadyAddresses {
			t.Error("clients are sent to nodes that are not ready")
		}
		if spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType || spec.UpdateStrategy.RollingUpdate != nil || spec.MinReadySeconds < 5 {
			t.Errorf("update strategy %v, %d s ready before the next", spec.UpdateStrategy, spec.MinReadySeconds)
		}
		pod := spec.Template.Spec
		c := pod.Containers[0]
		pause := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		if need := pause + stopTime(t); grace <= need {
			t.Errorf("a pod is killed after %s: handing leadership on and stopping takes up to %s", grace, need)
		}
		// Ready means that it follows or leads; alive must not depend on others, or one lost
		// majority would have all pods restarted for nothing.
		if live := c.LivenessProbe.Exec.Command; !slices.Contains(live, "--live") {
			t.Errorf("liveness probe %v", live)
		}
		if ready := c.ReadinessProbe.Exec.Command; slices.Contains(ready, "--live") {
			t.Errorf("readiness probe %v", ready)
		}
		// A log to replay must not be taken for a hang.
		if p := c.StartupProbe; time.Duration(p.PeriodSeconds*p.FailureThreshold)*time.Second < 2*time.Minute {
			t.Errorf("a pod has %d × %d s to start", p.FailureThreshold, p.PeriodSeconds)
		}
		if claim := spec.VolumeClaimTemplates[0]; claim.Name != "data" || spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Error("the data of a node goes with its pod")
		}
	}
}

func TestChartsPodsAreRestartedWhenTheirConfigChanges(t *testing.T) {
	sum := func(values string) string {
		return mustRender(t, values).set.Spec.Template.Annotations["checksum/config"]
	}
	if sum("") == "" || sum("") == sum("config: {log: {level: debug}}") {
		t.Error("a changed config leaves the pods as they are")
	}
	if sum("") != sum("service: {annotations: {a: b}}") {
		t.Error("what is no config restarts the pods")
	}
}
